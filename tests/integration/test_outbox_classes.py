"""The declared order of loss: a full outbox loses low classes first, and alerts never."""

import asyncio
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import apsw
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.intake import Sealing, seal
from edge.outbox import Outbox
from edge.recovery import FILE_NAME, open_outbox
from edge.sealed import CLASSES, Sealed
from edge.settings import OutboxSection
from edge.sqlite import OutboxFull
from shared.batch import decode
from shared.columns import Columns
from shared.model import Kind, Point, PointClass, PointSet
from tests.integration.outbox_kit import (
    ALL,
    START_US,
    TurnedClock,
    commit,
    gaps_in,
    no_open_outbox,
    opened,
    state_of,
    told,
)

pytestmark = pytest.mark.usefixtures(no_open_outbox.__name__)

CLASSED = PointSet(tuple(Point(f"p{nth}", klass=CLASSES[nth % 4]) for nth in range(8)))
RANKS = np.arange(8, dtype=np.intp) % 4
SMALL = OutboxSection.model_construct(max_bytes=60_000, max_age_s=86_400.0)

Commits = Sequence[tuple[frozenset[int], bool]]


async def classed(folder: Path, section: OutboxSection = SMALL) -> Outbox:
    outbox, _ = await open_outbox(folder, CLASSED, TurnedClock(), section)
    await outbox.begin(1)
    return outbox


async def commit_of(outbox: Outbox, ranks: frozenset[int], nth: int, rows: int = 300) -> int:
    wanted = np.flatnonzero(np.isin(RANKS, list(ranks)))
    series = np.repeat(wanted, rows // len(wanted)).astype(np.int32)
    at = START_US + nth * 1_000_000 + np.arange(len(series))
    values = np.random.default_rng(nth).random(len(series))
    columns = Columns.of(series, at, values, np.zeros(len(series), np.uint16))
    tail = outbox.tail.copy()
    tail.absorb(columns)
    await outbox.commit(seal(Sealing(tail, RANKS, [columns])), tail, None)
    return len(columns)


async def pending_of(outbox: Outbox) -> list[Sealed]:
    return [one for one in await outbox.fetch(0, ALL, 10_000) if one.kind is Kind.READINGS]


def classes_of(segments: Sequence[Sealed]) -> list[PointClass]:
    return [one.klass for one in segments]


async def test_a_commit_makes_one_batch_for_each_class_and_the_classes_survive_a_restart(
    tmp_path: Path,
) -> None:
    outbox = await classed(tmp_path)
    await commit_of(outbox, frozenset({0, 1, 2, 3}), 0)
    await commit_of(outbox, frozenset({1}), 1)
    expected = [*reversed(CLASSES), PointClass.NORMAL]
    assert classes_of(await pending_of(outbox)) == expected
    for segment in await pending_of(outbox):
        series = np.unique(decode(segment.body).series)
        assert {CLASSED.points[one].klass for one in series} == {segment.klass}
    await outbox.close()
    again, _ = await open_outbox(tmp_path, CLASSED, TurnedClock(), SMALL)
    assert classes_of(await pending_of(again)) == expected
    await again.close()


@given(
    commits=st.lists(
        st.tuples(st.frozensets(st.integers(0, 3), min_size=1), st.booleans()),
        min_size=1,
        max_size=40,
    )
)
@settings(max_examples=40, deadline=None)
def test_what_is_lost_is_declared_in_the_order_that_is_promised(commits: Commits) -> None:
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(_lose(Path(folder), commits))


async def _lose(folder: Path, commits: Commits) -> None:
    outbox = await classed(folder)
    produced = 0
    everything: dict[int, Sealed] = {}
    settled: list[tuple[int, int]] = []
    for nth, (ranks, is_settled) in enumerate(commits):
        first = outbox.index.next_seq
        try:
            produced += await commit_of(outbox, ranks, nth)
        except OutboxFull:
            break
        new = await outbox.fetch(outbox.index.current.row.base + first - 1, ALL, 100)
        everything |= {one.seq: one for one in new}
        if is_settled:
            settled += [(one.seq, one.count) for one in new]
            seqs, total = [one for one, _ in settled], sum(count for _, count in settled)
            outbox.index.settle([told(1, seqs, total)])
        if nth % 3 == 2:
            await outbox.flush(now=True)
        await outbox.keep_caps()
        await _check(outbox, produced, everything, {one for one, _ in settled})
    await outbox.close()


async def _check(
    outbox: Outbox, produced: int, everything: dict[int, Sealed], settled: set[int]
) -> None:
    kept = {one.seq for one in await pending_of(outbox)}
    gaps = await gaps_in(outbox)
    voided = [
        seq
        for gap in gaps
        for one in gap["voided"]
        for first, last in one["seqs"]
        for seq in range(first, last + 1)
    ]
    assert sorted(voided) == sorted(everything.keys() - kept - settled)
    ledger = outbox.index.ledger()
    assert (ledger.imbalance(), ledger.produced) == (0, produced)
    assert ledger.gaps == sum(everything[one].count for one in voided)
    assert ledger.gaps == sum(gap["count"] for gap in gaps)
    _check_order([everything[one] for one in voided], [everything[one] for one in kept])
    _check_intervals(gaps, [everything[one] for one in kept | settled])


def _check_order(lost: Sequence[Sealed], kept: Sequence[Sealed]) -> None:
    assert not any(one.klass is PointClass.ALERT for one in lost)
    for klass in CLASSES:
        last_lost = max((one.id for one in lost if one.klass is klass), default=0)
        assert all(one.id > last_lost for one in kept if one.klass is klass)


def _check_intervals(gaps: Sequence[dict[str, Any]], had: Sequence[Sealed]) -> None:
    """No gap says of a point that it lacks a reading that is there or was delivered."""
    columns = [decode(one.body) for one in had]
    for gap in gaps:
        series = [one for first, last in gap["series"] for one in range(first, last + 1)]
        for one in columns:
            here = one.observed_at[np.isin(one.series, series)]
            assert not ((here > gap["from_us"]) & (here < gap["to_us"])).any()


async def test_the_higher_class_stays_until_all_of_the_lower_is_lost(tmp_path: Path) -> None:
    outbox = await classed(tmp_path)
    for nth in range(100):
        await commit_of(outbox, frozenset({0, 1, 2, 3}), nth, 800)
    lost_ranks: list[int] = []
    while before := [one for one in await pending_of(outbox) if one.klass in CLASSES[:3]]:
        await outbox._caps.dropped_some(outbox)
        left = {one.id for one in await pending_of(outbox)}
        lost_ranks += [CLASSES.index(one.klass) for one in before if one.id not in left]
        if await outbox.used_bytes() <= SMALL.max_bytes:
            break
    assert len(lost_ranks) > 200
    assert lost_ranks == sorted(lost_ranks)
    await outbox.close()


async def test_alerts_are_never_lost_but_wait_until_there_is_room(tmp_path: Path) -> None:
    outbox = await classed(tmp_path)
    produced, alerts = 0, 0
    while await outbox.used_bytes() <= SMALL.max_bytes:
        produced += await commit_of(outbox, frozenset({3}), alerts)
        alerts += 1
    await outbox.keep_caps()
    with pytest.raises(OutboxFull, match="never dropped"):
        await commit_of(outbox, frozenset({0}), alerts)
    assert classes_of(await pending_of(outbox)) == [PointClass.ALERT] * alerts
    assert (outbox.index.ledger().gaps, outbox.index.ledger().pending) == (0, produced)
    outbox.index.settle([told(1, list(range(alerts // 2)), 300 * (alerts // 2))])
    await outbox.flush(now=True)
    produced += await commit_of(outbox, frozenset({3}), 1_000)
    assert outbox.index.ledger().produced == produced
    await outbox.close()


@pytest.mark.parametrize("is_damaged", [False, True])
async def test_an_outbox_of_the_format_before_classes_is_taken_over(
    tmp_path: Path, is_damaged: bool
) -> None:
    outbox = await opened(tmp_path, 1)
    for nth in range(3):
        await commit(outbox, 50, START_US + 1_000 * nth)
    before = state_of(outbox)[0]
    await outbox.close()
    await asyncio.to_thread(_as_format_1, tmp_path / FILE_NAME)
    if is_damaged:
        (tmp_path / "outbox.suspect").touch()
    again = await opened(tmp_path, 2)
    assert (again.index.ledger().pending, again.index.ledger().produced) == (150, before.produced)
    assert classes_of(await pending_of(again)) == [PointClass.NORMAL] * 3
    await again.close()


def _as_format_1(path: Path) -> None:
    db = apsw.Connection(str(path))
    db.execute("ALTER TABLE segments DROP COLUMN class")
    db.execute("PRAGMA user_version=1")
    db.close()
