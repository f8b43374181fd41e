"""Rollups from the gateway to history: they outlive the raw readings a full outbox drops."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest

from central.storage.database import project_transaction
from edge.aggregate import AggregateSection
from edge.answers import Answer
from edge.collector import Collector
from edge.enrolment import Identity, enrol
from edge.holes import GapReason
from edge.intake import Intake
from edge.outbox import Outbox
from edge.recovery import open_outbox
from edge.settings import Device, OutboxSection
from edge.uplink import Uplink
from shared.batch import decode_rollups
from shared.clock import SystemClock
from shared.columns import Columns
from shared.link import EPOCH_LIMIT
from shared.model import Kind, PointSet
from shared.quality import Reason, bad
from shared.rollups import ROLLUP
from tests.integration.outbox_kit import ALL, TurnedClock, copied, gaps_in, no_open_outbox
from tests.servers.central_process import Central, until
from tests.servers.fake_driver import FakeDevice

pytest_plugins = ["tests.servers.postgres_fixtures", "tests.servers.central_fixtures"]
pytestmark = pytest.mark.usefixtures(no_open_outbox.__name__)

S = 1_000_000
WINDOW_S = 900
BEGIN_US = (SystemClock().now_us() // (86_400 * S) - 2) * 86_400 * S
SMALL = OutboxSection(commit_window_s=0.02, max_bytes=1024 * 1024)


@dataclass
class Site:
    """One device whose readings a test makes, over a real collector, intake and outbox."""

    collector: Collector
    intake: Intake
    outbox: Outbox
    clock: TurnedClock

    async def bring(self, at_us: int, values: Sequence[float], quality: int = 0) -> None:
        """Read all points of the device once."""
        self.clock.at_us = at_us
        count = len(values)
        columns = Columns.of(range(count), [at_us] * count, values, [quality] * count)
        (task,) = self.collector.tasks
        await task._bring(Answer(task.device.name, columns))
        await task.report_due()


def device(points: int, keep: str) -> Device:
    made = FakeDevice(points).device("meter", interval_s=10.0)
    policy = AggregateSection.model_validate({"window_s": WINDOW_S, "keep": keep})
    return replace(made, aggregates=(policy,) * len(made.points))


@asynccontextmanager
async def site(folder: Path, points: int, keep: str = "both") -> AsyncIterator[Site]:
    await asyncio.to_thread(folder.mkdir, exist_ok=True)
    one = device(points, keep)
    clock = TurnedClock(at_us=BEGIN_US)
    point_set = PointSet(tuple(source.point for source in one.points))
    outbox, reason = await open_outbox(folder, point_set, clock, SMALL)
    await outbox.begin(secrets.randbelow(EPOCH_LIMIT - 1) + 1)
    intake = Intake(outbox, SMALL, clock)
    if reason is not None:
        intake.restarted(reason)
    collector = Collector((one,), intake, clock)
    committing = asyncio.create_task(intake.run())
    try:
        yield Site(collector, intake, outbox, clock)
    finally:
        committing.cancel()
        await asyncio.wait([committing])
        await outbox.close()


async def rollups_in(outbox: Outbox) -> list[dict[str, Any]]:
    found = await outbox.fetch(0, ALL, 10_000)
    bodies = [decode_rollups(one.body) for one in found if one.kind is Kind.ROLLUPS]
    names = ROLLUP.names or ()
    return [dict(zip(names, row, strict=True)) for rows in bodies for row in rows.tolist()]


async def test_rollups_outlive_the_readings_that_a_full_outbox_drops(
    central: Central, tmp_path: Path
) -> None:
    folder = tmp_path / "gw"
    code = await central.code()
    enrol_at = f"https://127.0.0.1:{central.enrol_port}"
    await asyncio.to_thread(enrol, enrol_at, code, folder)
    rng = np.random.default_rng(5)
    polls, points = 12 * WINDOW_S // 2, 60
    produced = rng.normal(20, 5, (polls, points))
    async with site(folder, points) as gw:
        for nth in range(polls):
            await gw.bring(BEGIN_US + nth * 2 * S, produced[nth].tolist())
            if nth % 300 == 299:
                await gw.intake.flushed()
                await gw.outbox.keep_caps()
        gw.clock.at_us += 2 * S
        await gw.collector.close_windows()
        await gw.intake.flushed()
        await gw.outbox.keep_caps()
        ledger = gw.outbox.index.ledger()
        assert (ledger.produced, ledger.imbalance()) == (polls * points, 0)
        assert ledger.gaps > polls * points / 4, "the outbox was too large to drop anything"
        link = f"wss://127.0.0.1:{central.link_port}/link"
        uplink = Uplink(link, Identity.load(folder), gw.outbox, SystemClock(), trusted_clock=True)
        sending = asyncio.create_task(uplink.run())

        async def is_empty() -> bool:
            await gw.outbox.flush(now=True)
            return not gw.outbox.index.pending()

        await until(is_empty, "the outbox is empty")
        sending.cancel()
        await asyncio.wait([sending])
        ledger = gw.outbox.index.ledger()
    async with project_transaction(central.database.service, "demo") as connection:
        stored = await connection.fetchval("SELECT count(*) FROM readings")
        lost = await connection.fetchval("SELECT sum(count)::int8 FROM gaps WHERE rollups = 0")
        windows = await connection.fetch("SELECT * FROM rollups ORDER BY start")
    assert (stored, lost) == (ledger.delivered, ledger.gaps)
    assert stored + lost == polls * points
    assert len(windows) == 12 * points
    by_window = produced.reshape(12, WINDOW_S // 2, points)
    # Each point is known by the minimum of its first window.
    series_of = {
        row["point_id"]: int(np.flatnonzero(by_window[0].min(axis=0) == row["min"])[0])
        for row in windows[:points]
    }
    assert sorted(series_of.values()) == list(range(points))
    for row in windows:
        values = by_window[_window(row["start"]), :, series_of[row["point_id"]]]
        assert (row["count"], row["source"]) == (len(values), "edge")
        assert row["sum"] == pytest.approx(values.sum())
        assert (row["min"], row["max"]) == (values.min(), values.max())
        assert row["mean"] == pytest.approx(values.mean())
    await _check_history(central, by_window[:, :, 0])


def _window(start: datetime) -> int:
    return int(start.timestamp() - BEGIN_US / S) // WINDOW_S


async def _check_history(central: Central, values: np.ndarray[Any, Any]) -> None:
    def iso(seconds: float) -> str:
        return datetime.fromtimestamp(BEGIN_US / S + seconds, UTC).isoformat()

    query = {"key": "meter/p0", "bucket": "PT30M", "from": iso(0), "to": iso(12 * WINDOW_S)}
    async with central.client() as client:
        answer: httpx2.Response = await client.get("/history", params=query)
        latest = (await client.get("/latest", params={"key": "meter/p0"})).json()
    (point,) = answer.json()["points"]
    assert [one["count"] for one in point["buckets"]] == [WINDOW_S] * 6
    assert {one["source"] for one in point["buckets"]} >= {"edge"}
    halves = values.reshape(6, WINDOW_S)
    for bucket, half in zip(point["buckets"], halves, strict=True):
        assert bucket["avg"] == pytest.approx(half.mean())
        assert [bucket["first"], bucket["last"]] == [half[0], half[-1]]
    assert latest["readings"][0]["value"] == values[-1, -1]


async def test_points_of_which_rollups_alone_are_kept_produce_no_readings(tmp_path: Path) -> None:
    async with site(tmp_path, 2, "rollups") as gw:
        for nth in range(200):
            await gw.bring(BEGIN_US + nth * 10 * S, [1.0, float(nth)])
        await gw.collector.close_windows()
        await gw.intake.flushed()
        rows = await rollups_in(gw.outbox)
        dues = gw.intake.dues
        assert gw.outbox.index.ledger().produced == 0
    assert sum(row["count"] for row in rows) == 400
    assert (dues.polled, dues.aggregated) == (400, 400)
    assert [row["last"] for row in rows if row["series"] == 1] == [89.0, 179.0, 199.0]


async def test_after_a_crash_the_gap_begins_where_the_last_rollup_ends(tmp_path: Path) -> None:
    async with site(tmp_path / "a", 1, "rollups") as gw:
        for nth in range(100):
            await gw.bring(BEGIN_US + nth * 10 * S, [float(nth)])
        await gw.intake.flushed()
        crashed = copied(tmp_path / "a", tmp_path / "b")
    async with site(crashed, 1, "rollups") as gw:
        await gw.bring(BEGIN_US + 2_000 * S, [7.0])
        await gw.intake.flushed()
        (gap,) = await gaps_in(gw.outbox)
        rows = await rollups_in(gw.outbox)
    assert [row["count"] for row in rows] == [90]
    assert (gap["from_us"], gap["to_us"]) == (BEGIN_US + 890 * S, BEGIN_US + 2_000 * S)
    assert gap["reason"] == "restart"


async def test_dropped_rollups_are_told_and_no_reading_is_counted_twice(tmp_path: Path) -> None:
    async with site(tmp_path, 3) as gw:
        for nth in range(100):
            await gw.bring(BEGIN_US + nth * 10 * S, [1.0, 2.0, 3.0])
        await gw.collector.close_windows()
        await gw.intake.flushed()
        found = await gw.outbox.fetch(0, ALL, 10_000)
        await gw.outbox.drop(
            [one for one in found if one.kind is Kind.ROLLUPS], GapReason.OUTBOX_FULL
        )
        gaps = await gaps_in(gw.outbox)
        ledger = gw.outbox.index.ledger()
    assert sum(gap.get("rollups", 0) for gap in gaps) == 6
    assert sum(gap["count"] for gap in gaps) == 0
    assert (ledger.produced, ledger.pending, ledger.gaps, ledger.imbalance()) == (300, 300, 0, 0)


async def test_a_window_told_in_parts_is_one_row_in_central(
    central: Central, tmp_path: Path
) -> None:
    folder = tmp_path / "gw"
    code = await central.code()
    await asyncio.to_thread(enrol, f"https://127.0.0.1:{central.enrol_port}", code, folder)
    for part in (0, 1):
        async with site(folder, 1, "rollups") as gw:
            for nth in range(30):
                quality = bad(Reason.TIMEOUT) if nth == 3 else 0
                at_us = BEGIN_US + (part * 300 + nth * 10) * S
                await gw.bring(at_us, [part * 100.0 + nth], quality)
            gw.clock.at_us += 5 * S
            await gw.collector.close_windows()
            await gw.intake.flushed()
            link = f"wss://127.0.0.1:{central.link_port}/link"
            identity = Identity.load(folder)
            uplink = Uplink(link, identity, gw.outbox, SystemClock(), trusted_clock=True)
            sending = asyncio.create_task(uplink.run())

            async def is_empty(outbox: Outbox = gw.outbox) -> bool:
                await outbox.flush(now=True)
                return not outbox.index.pending()

            await until(is_empty, "the outbox is empty")
            sending.cancel()
            await asyncio.wait([sending])
    async with project_transaction(central.database.service, "demo") as connection:
        (row,) = await connection.fetch("SELECT * FROM rollups")
    assert (row["count"], row["good_count"]) == (60, 58)
    assert (row["first"], row["last"], row["min"], row["max"]) == (0.0, 129.0, 0.0, 129.0)
    # Each part knows 295 s less the 10 s after its bad reading.
    assert row["known_us"] == 2 * 285 * S
