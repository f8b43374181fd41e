"""Readings that meet at one point and time: the same one stays in any order, all are counted."""

import asyncio
import math

import numpy as np
import pytest

from central.messaging import (
    ReadingRecord,
)
from central.storage.settled import (
    read_settled,
)
from shared.quality import Flag, QualityClass, Reason, bad, quality
from tests.integration.writer_kit import NAN, T0, Rig, Row, open_rig, readings
from tests.servers.postgres import Database

pytest_plugins = ["tests.servers.postgres_fixtures", "tests.servers.timescale_fixtures"]
pytestmark = pytest.mark.integration


@pytest.fixture
async def rig(either_database: Database) -> Rig:
    return await open_rig(either_database)


PAIRS: list[tuple[tuple[float, int], tuple[float, int], tuple[float | None, int]]] = [
    ((1.0, 0), (2.0, 0), (2.0, 0)),
    ((5.0, bad(Reason.TIMEOUT)), (1.0, 0), (1.0, 0)),
    ((5.0, 0), (1.0, quality(QualityClass.BAD, flags=Flag.CORRECTED)), (1.0, 0x2800)),
    ((NAN, bad(Reason.TIMEOUT)), (NAN, bad(Reason.STALE)), (None, bad(Reason.STALE))),
    ((NAN, 0), (-1e300, 0), (-1e300, 0)),
    ((3.0, 0), (3.0, 0), (3.0, 0)),
]
"""One reading, another of the same point and time, and which of them stays."""


@pytest.mark.parametrize("together", [True, False], ids=["one transaction", "two transactions"])
@pytest.mark.parametrize("turned", [True, False])
async def test_the_survivor_of_a_collision_is_the_same_in_any_order(
    rig: Rig, together: bool, turned: bool
) -> None:
    for epoch in (1, 2):
        turn = turned == (epoch == 1)
        given = [other if turn else one for one, other, _ in PAIRS]
        rows: list[Row] = [(point, T0, *reading) for point, reading in enumerate(given)]
        await rig.publish_rows([*rows, (99, T0 + epoch, 0.0, 0)], epoch=epoch)
        if not together:
            await rig.write()
    await rig.write()

    survivors = [pair[2] for pair in PAIRS]
    stored = await rig.stored()
    assert [row[2:] for row in stored if row[0] < 99] == survivors
    latest = await rig.fetch(
        "SELECT value, quality FROM latest WHERE point_id < 99 ORDER BY point_id"
    )
    assert latest == survivors
    first, second = await rig.settled(1), await rig.settled(2)
    assert (first.delivered, first.collapsed) == (len(PAIRS) + 1, 0)
    assert (second.delivered, second.collapsed) == (1, len(PAIRS))


async def test_rows_of_one_batch_that_meet_are_counted_too(rig: Rig) -> None:
    await rig.publish_rows([(1, T0, 1.0, 0), (1, T0, 2.0, 0), (1, T0, 3.0, 0), (2, T0, 1.0, 0)])

    await rig.write()

    row = await rig.settled()
    assert (row.delivered, row.collapsed) == (2, 2)
    assert await rig.stored() == [(1, T0, 3.0, 0), (2, T0, 1.0, 0)]


async def test_a_random_mess_conserves_every_reading(rig: Rig) -> None:
    rng = np.random.default_rng(11)
    records = []
    for seq in range(60):
        size = int(rng.integers(1, 120))
        rows = [
            (int(point), T0 + int(at), float(value), int(qual))
            for point, at, value, qual in zip(
                rng.integers(1, 6, size),
                rng.integers(0, 400, size),
                rng.choice([1.0, 2.0, NAN], size),
                rng.choice([0, 0x0800, 0x1000, 0x2001], size),
                strict=True,
            )
        ]
        records.append(readings(rows, epoch=1 + seq % 3, seq=seq, gateway_id=1 + seq % 2))
    sent = [records[at] for at in rng.permutation(60).tolist()] + records[:20]
    for at, record in enumerate(sent):
        await rig.publish(record, "backfill" if at % 3 else "readings")

    await asyncio.gather(rig.write("readings"), rig.write("backfill"))

    rows_now = await read_settled(rig.database.service, "demo")
    total = sum(len(record.columns) for record in records)
    assert sum(row.delivered + row.collapsed for row in rows_now) == total
    stored = await rig.stored()
    assert sum(row.delivered for row in rows_now) == len(stored)
    assert [row[:2] for row in stored] == sorted(
        {
            (int(point), int(at))
            for record in records
            for point, at in zip(record.columns.series, record.columns.observed_at, strict=True)
        }
    )
    assert {(row[0], row[1]): (row[2], row[3]) for row in stored} == _survivors(records)


async def test_texts_follow_their_reading(rig: Rig) -> None:
    rows: list[Row] = [(1, T0, NAN, 0), (2, T0, NAN, 0)]
    await rig.publish(readings(rows, epoch=1, texts={0: "auto", 1: "on"}))
    await rig.write()
    await rig.publish(readings(rows, epoch=2, texts={0: "manual"}))
    await rig.publish(readings([(2, T0, 4.0, 0), (3, T0, NAN, 0)], epoch=3, texts={1: "new"}))

    await rig.write()

    texts = await rig.fetch("SELECT point_id, text FROM readings_texts ORDER BY point_id")
    assert texts == [(1, "manual"), (3, "new")]
    assert await rig.fetch("SELECT point_id, value, text FROM latest ORDER BY point_id") == [
        (1, None, "manual"),
        (2, 4.0, None),
        (3, None, "new"),
    ]


async def test_a_text_with_a_null_character_is_kept_with_it_replaced(rig: Rig) -> None:
    rows: list[Row] = [(1, T0, NAN, 0), (2, T0, 2.0, 0), (3, T0, NAN, 0)]
    batch = readings(rows, texts={0: "a\x00b", 2: "whole"})
    await rig.publish(batch)
    await rig.write()
    # Again by another epoch: the merge with what is there already keeps it too.
    await rig.publish(readings([*rows, (4, T0, NAN, 0)], epoch=8, texts={0: "a\x00b", 3: "\x00"}))

    await rig.write()

    assert [row[0] for row in await rig.stored()] == [1, 2, 3, 4]
    expected = [(1, "a\N{REPLACEMENT CHARACTER}b"), (3, "whole"), (4, "\N{REPLACEMENT CHARACTER}")]
    for table in ("readings_texts", "latest"):
        kept = await rig.fetch(
            f"SELECT point_id, text FROM {table} WHERE text IS NOT NULL ORDER BY 1"  # noqa: S608 -- fixed names
        )
        assert kept == expected
    row = await rig.settled()
    assert (row.delivered, row.quarantined) == (3, 0)
    assert await rig.fetch("SELECT seq FROM quarantine") == []


async def test_colliding_texts_with_null_characters_leave_the_same_one_in_any_order(
    rig: Rig,
) -> None:
    texts = ("a\x00", "ab")
    for point, pair in ((1, texts), (2, texts[::-1])):
        for text in pair:
            seq = next(rig.seqs)
            await rig.publish(readings([(point, T0, NAN, 0)], seq=seq, texts={0: text}))
            await rig.write()
    together = [(3, T0, NAN, 0), (3, T0, NAN, 0)]
    await rig.publish(readings(together, epoch=9, texts=dict(enumerate(texts))))

    await rig.write()

    kept = await rig.fetch("SELECT text FROM readings_texts")
    assert len(kept) == 3
    assert len(set(kept)) == 1


def _survivors(records: list[ReadingRecord]) -> dict[tuple[int, int], tuple[float | None, int]]:
    """Say the rule again, plainly: corrected, then class, then value, then the smaller quality."""
    best: dict[tuple[int, int], tuple[tuple[float, ...], float | None, int]] = {}
    for record in records:
        columns = record.columns
        for point, at, value, qual in zip(
            columns.series.tolist(),
            columns.observed_at.tolist(),
            columns.value.tolist(),
            columns.quality.tolist(),
            strict=True,
        ):
            shown = None if math.isnan(value) else value
            number = float("-inf") if shown is None else shown
            rank = (qual & 0x0800, -(qual >> 12), number, -qual)
            if (point, at) not in best or rank > best[point, at][0]:
                best[point, at] = (rank, shown, qual)
    return {key: (value, qual) for key, (_, value, qual) in best.items()}
