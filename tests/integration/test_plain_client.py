"""A client written from the reference alone enrols, sends, and is settled by a real central."""

import asyncio
import json
import math
import secrets
import struct
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgpack
import pytest
import zstandard

from tests.servers.central_process import Central, running_central, until
from tests.servers.plain_batch import Broken, Reading, in_order, seal, unseal
from tests.servers.plain_client import Gateway, Point, Totals, hash_of
from tests.servers.plain_enrol import EnrolmentRefused, enrol, renew
from tests.servers.postgres import Database

pytest_plugins = ["tests.servers.postgres_fixtures", "tests.servers.central_fixtures"]
pytestmark = pytest.mark.integration

DATA = Path(__file__).parents[1] / "data"
BODIES = sorted(DATA.glob("batch/*.batch"))
FRAMES = sorted(DATA.glob("link/*.msgpack"))
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
DEADLINE_S = 60.0
POINTS: list[Point] = [
    ("plain/temp", "degC", "number", "normal"),
    ("plain/state", "", "text", "low"),
]


def where(central: Central, port: str = "link") -> tuple[str, int]:
    return "127.0.0.1", central.link_port if port == "link" else central.enrol_port


async def gateway_of(central: Central, folder: Path) -> Gateway:
    code = await central.code()
    identity = await asyncio.to_thread(enrol, where(central, "enrol"), code)
    return Gateway(identity, folder / "plain")


@asynccontextmanager
async def connected(gateway: Gateway, central: Central) -> AsyncIterator[None]:
    """Hold one session; it must not end by itself."""
    session = asyncio.create_task(gateway.session(where(central)))
    try:
        yield
        assert not session.done(), f"the session ended: {session}"
    finally:
        session.cancel()
        with suppress(asyncio.CancelledError):
            await session


async def settled(gateway: Gateway) -> None:
    async def nothing_kept() -> bool:
        return not gateway.kept

    await until(nothing_kept, "all batches are settled", DEADLINE_S)


def temperatures(n: int) -> list[Reading]:
    """Give readings of the last minutes, a second apart."""
    first = time.time_ns() // 1000 - 600_000_000
    return [Reading(0, first + i * 1_000_000, 20 + i / 10) for i in range(n)]


async def history(central: Central, key: str) -> list[Reading]:
    """Give what the human API has of a point, its times in microseconds."""
    span = {"key": key, "from": "1970-01-01T00:00:00Z", "to": "2100-01-01T00:00:00Z"}
    async with central.client() as client:
        answer = await client.get("/history", params=span)
    assert answer.status_code == 200, answer.text
    (point,) = answer.json()["points"]
    return [
        Reading(0, microseconds(row["observed_at"]), row["value"], text=row["text"])
        for row in point["readings"]
    ]


def microseconds(text: str) -> int:
    return (datetime.fromisoformat(text) - EPOCH) // timedelta(microseconds=1)


async def test_what_the_client_sends_is_settled_and_served_as_it_was(
    central: Central, tmp_path: Path
) -> None:
    gateway = await gateway_of(central, tmp_path)
    points = gateway.points(POINTS)
    numbers = temperatures(500)
    texts = [
        Reading(1, reading.time_us, None, text=f"état {i}") for i, reading in enumerate(numbers)
    ]
    gap = a_gap(numbers[-1].time_us)
    gateway.keep("readings", 500, points, seal(numbers))
    gateway.keep("readings", 500, points, seal(texts))
    gateway.keep("events", 1, points, zstandard.compress(msgpack.packb([gap])))

    async with connected(gateway, central):
        await settled(gateway)

    assert gateway.totals[gateway.epoch] == Totals(1000, 0, 0)
    assert await history(central, "plain/temp") == numbers
    assert await history(central, "plain/state") == [text._replace(series=0) for text in texts]
    async with central.client() as client:
        (declared,) = (await client.get("/gaps")).json()["gaps"]
    assert (declared["id"], declared["points"]) == (gap["id"].hex(), ["plain/temp"])


def a_gap(after_us: int) -> dict[str, Any]:
    return {
        "event": "gap",
        "id": secrets.token_bytes(16),
        "cause": "missed",
        "reason": "device_down",
        "series": [[0, 0]],
        "from_us": after_us,
        "to_us": after_us + 5_000_000,
        "count": 0,
        "missed": 4,
        "voided": [],
    }


async def test_a_batch_settled_in_an_earlier_session_is_told_in_the_welcome(
    central: Central, tmp_path: Path
) -> None:
    gateway = await gateway_of(central, tmp_path)
    points = gateway.points(POINTS)
    gateway.keep("readings", 10, points, seal(temperatures(10)))
    unheard = dict(gateway.kept)
    async with connected(gateway, central):
        await settled(gateway)

    gateway.kept.update(unheard)
    gateway.received.clear()
    async with connected(gateway, central):
        await settled(gateway)

    assert [frame["type"] for frame in gateway.received] == ["welcome"]
    assert gateway.received[0]["settled"] == [
        {
            "epoch": gateway.epoch,
            "seqs": [[0, 0]],
            "delivered": 10,
            "collapsed": 0,
            "quarantined": 0,
        }
    ]


async def test_a_batch_that_waits_for_its_points_survives_a_reconnect(
    central: Central, tmp_path: Path
) -> None:
    gateway = await gateway_of(central, tmp_path)
    points = gateway.points(POINTS)
    body = temperatures(10)
    gateway.keep("readings", 10, points, seal(body))
    del gateway.point_sets[points]
    async with connected(gateway, central):
        await until(lambda: heard(gateway, "need_point_set"), "the points are asked", DEADLINE_S)
    assert gateway.kept

    gateway.points(POINTS)
    gateway.received.clear()
    async with connected(gateway, central):
        await settled(gateway)

    (told,) = gateway.received[0]["settled"]
    assert (told["epoch"], told["seqs"]) == (gateway.epoch, [])
    assert await history(central, "plain/temp") == body


async def heard(gateway: Gateway, kind: str) -> bool:
    return any(frame["type"] == kind for frame in gateway.received)


async def test_a_batch_sent_again_is_harmless(central: Central, tmp_path: Path) -> None:
    gateway = await gateway_of(central, tmp_path)
    body = temperatures(10)
    name = gateway.keep("readings", 10, gateway.points(POINTS), seal(body))
    again = dict(gateway.kept)
    async with connected(gateway, central):
        await settled(gateway)
        for _ in range(3):
            gateway.keep_again(again[name])
            await settled(gateway)

    assert gateway.totals[gateway.epoch] == Totals(10, 0, 0)
    assert await history(central, "plain/temp") == body


async def test_garbage_is_refused_and_settled_and_the_next_batch_flows(
    central: Central, tmp_path: Path
) -> None:
    gateway = await gateway_of(central, tmp_path)
    points = gateway.points(POINTS)
    broken = bytearray(seal(temperatures(3)))
    broken[-1] ^= 1
    sent = {
        gateway.keep("readings", 5, points, b"garbage"): "not_a_batch",
        gateway.keep("readings", 3, points, bytes(broken)): "checksum",
        gateway.keep("readings", 4, points, seal(temperatures(3))): "count_mismatch",
        gateway.keep("readings", 1, points, seal([Reading(2, 0, 1.0)])): "bad_series",
        gateway.keep("events", 1, points, zstandard.compress(msgpack.packb([{}]))): "bad_event",
        gateway.keep("rollups", 2, points, b"garbage"): "not_a_batch",
    }
    gateway.keep("readings", 7, points, seal(temperatures(7)))

    async with connected(gateway, central):
        await settled(gateway)

    assert {name: problem["code"] for name, problem in gateway.refused.items()} == sent
    assert gateway.totals[gateway.epoch] == Totals(7, 0, 5 + 3 + 4 + 1)


async def test_the_client_comes_back_after_an_outage_and_sends_what_it_kept(
    database: Database, tmp_path: Path
) -> None:
    body = temperatures(20)
    async with asyncio.TaskGroup() as tasks:
        async with running_central(database, tmp_path) as central:
            gateway = await gateway_of(central, tmp_path)
            running = tasks.create_task(gateway.run(where(central)))
            points = gateway.points(POINTS)
            gateway.keep("readings", 10, points, seal(body[:10]))
            await settled(gateway)

        gateway.keep("readings", 10, points, seal(body[10:]))
        port = central.link_port
        async with running_central(database, tmp_path, link_port=port) as central:
            await settled(gateway)
            running.cancel()
            assert gateway.totals[gateway.epoch] == Totals(20, 0, 0)
            assert await history(central, "plain/temp") == body


async def test_batches_that_central_puts_off_are_settled_in_the_end(
    database: Database, tmp_path: Path
) -> None:
    async with running_central(database, tmp_path, batches_in_hand=2) as central:
        gateway = await gateway_of(central, tmp_path)
        points = gateway.points(POINTS)
        body = temperatures(12)
        for reading in body:
            gateway.keep("readings", 1, points, seal([reading]))
        async with connected(gateway, central):
            await settled(gateway)

        assert await heard(gateway, "retry_after")
        assert gateway.totals[gateway.epoch] == Totals(12, 0, 0)
        assert await history(central, "plain/temp") == body


async def test_of_two_readings_of_one_moment_one_survives_and_both_are_counted(
    central: Central, tmp_path: Path
) -> None:
    gateway = await gateway_of(central, tmp_path)
    points = gateway.points(POINTS)
    (good,) = temperatures(1)
    bad = good._replace(value=None, quality=0x2001)
    lower = good._replace(value=-5.0)
    gateway.keep("readings", 2, points, seal([bad, good]))
    gateway.keep("readings", 1, points, seal([lower]))

    async with connected(gateway, central):
        await settled(gateway)

    assert gateway.totals[gateway.epoch] == Totals(1, 2, 0)
    assert await history(central, "plain/temp") == [good]


async def test_a_newer_session_of_the_same_gateway_fences_the_older(
    central: Central, tmp_path: Path
) -> None:
    older = await gateway_of(central, tmp_path)
    newer = Gateway(older.identity, tmp_path / "newer")
    async with asyncio.timeout(DEADLINE_S), asyncio.TaskGroup() as tasks:
        session = tasks.create_task(older.session(where(central)))
        await until(lambda: heard(older, "welcome"), "the older is welcome", DEADLINE_S)
        async with connected(newer, central):
            assert await session == 4409


async def test_a_code_works_once_and_only_with_its_pin(central: Central, tmp_path: Path) -> None:
    code = await central.code()
    with pytest.raises(EnrolmentRefused, match="pin") as elsewhere:
        await asyncio.to_thread(enrol, where(central, "enrol"), code[:-26] + "a" * 26)
    assert elsewhere.value.status == 0
    first = await asyncio.to_thread(enrol, where(central, "enrol"), code)
    assert (first.project, first.gateway) == ("demo", "gw1")
    with pytest.raises(EnrolmentRefused) as twice:
        await asyncio.to_thread(enrol, where(central, "enrol"), code)
    assert twice.value.status == 403


async def test_a_renewed_certificate_opens_a_session(central: Central, tmp_path: Path) -> None:
    gateway = await gateway_of(central, tmp_path)
    renewed = await asyncio.to_thread(renew, where(central, "enrol"), gateway.identity)
    assert renewed.certificate != gateway.identity.certificate
    another = Gateway(renewed, tmp_path / "renewed")
    another.keep("readings", 1, another.points(POINTS), seal(temperatures(1)))
    async with connected(another, central):
        await settled(another)


async def test_every_golden_batch_is_taken_as_the_plain_writer_writes_it(
    central: Central, tmp_path: Path
) -> None:
    gateway = await gateway_of(central, tmp_path)
    expected: dict[str, list[Reading]] = {}
    for path in BODIES:
        readings = [reading for reading in golden(path) if storable(reading)]
        keys = sorted({reading.series for reading in readings})
        names = [f"{path.stem}/{key}" for key in keys]
        points = gateway.points([(name, "", "number", "normal") for name in names])
        mine = [reading._replace(series=keys.index(reading.series)) for reading in readings]
        gateway.keep("readings", len(mine), points, seal(mine))
        for index, name in enumerate(names):
            expected[name] = [as_served(one) for one in mine if one.series == index]

    async with connected(gateway, central):
        await settled(gateway)

    assert not gateway.refused
    assert gateway.totals[gateway.epoch].quarantined == 0
    served = {name: await history(central, name) for name in expected}
    assert served == expected


def golden(path: Path) -> list[Reading]:
    return [
        Reading(series, time_us, None if bits is None else double(bits), quality, text)
        for series, time_us, bits, quality, text in json.loads(
            path.with_suffix(".json").read_text()
        )
    ]


def double(bits: str) -> float:
    return float(struct.unpack(">d", bytes.fromhex(bits))[0])


def storable(reading: Reading) -> bool:
    """Tell whether the human API serves the time, and no other golden reading has it too."""
    return 0 <= reading.time_us < 2**62 and reading.value != -math.inf


def as_served(reading: Reading) -> Reading:
    """Give what the human API says of a reading: JSON knows no infinity."""
    finite = reading.value is not None and math.isfinite(reading.value)
    return Reading(0, reading.time_us, reading.value if finite else None, text=reading.text)


@pytest.mark.parametrize("path", BODIES, ids=lambda path: path.stem)
def test_the_plain_reader_reads_every_golden_batch(path: Path) -> None:
    expected = golden(path)
    assert to_the_bit(unseal(path.read_bytes())) == to_the_bit(expected)
    assert to_the_bit(unseal(seal(reversed(expected)))) == to_the_bit(in_order(reversed(expected)))


def to_the_bit(readings: list[Reading]) -> list[tuple[object, ...]]:
    return [
        (
            *reading[:2],
            reading.value if reading.value is None else reading.value.hex(),
            *reading[3:],
        )
        for reading in readings
    ]


@pytest.mark.parametrize("path", BODIES, ids=lambda path: path.stem)
def test_the_plain_reader_takes_no_damaged_golden_batch(path: Path) -> None:
    body = path.read_bytes()
    for at in range(len(body)):
        damaged = bytearray(body)
        damaged[at] ^= 0x10
        with pytest.raises(Broken):
            unseal(bytes(damaged))
        with pytest.raises(Broken):
            unseal(body[:at])


@pytest.mark.parametrize("path", FRAMES, ids=lambda path: path.stem)
def test_golden_frames_are_the_msgpack_of_what_they_hold(path: Path) -> None:
    expected = json.loads(path.with_suffix(".json").read_text(), object_hook=with_bytes)
    assert msgpack.unpackb(path.read_bytes()) == expected
    assert msgpack.packb(expected) == path.read_bytes()
    if "points" in expected:
        assert hash_of(expected["points"]) == expected["hash"]


def with_bytes(held: dict[str, Any]) -> Any:
    return bytes.fromhex(held["hex"]) if held.keys() == {"hex"} else held
