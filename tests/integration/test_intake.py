"""The intake on a real outbox: group commit, acknowledgement, back-pressure, holes, full disks."""

import asyncio
import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge import intake as intake_module
from edge.answers import Answer, Silence
from edge.holes import GapReason
from edge.intake import PRESSING, Intake
from edge.outbox import Outbox
from edge.recovery import open_outbox
from edge.settings import OutboxSection
from edge.sqlite import OutboxFull
from shared.batch import decode, decode_events
from shared.columns import Columns, concatenate
from shared.model import Kind, Point, PointSet
from shared.quality import Flag, Reason, bad
from tests.integration.outbox_kit import (
    ALL,
    POINTS,
    START_US,
    TurnedClock,
    copied,
    gaps_in,
    no_open_outbox,
    told,
)

pytestmark = pytest.mark.usefixtures(no_open_outbox.__name__)

QUICK = OutboxSection(commit_window_s=0.02)
DEADLINE_S = 20.0
EVERY = np.arange(len(POINTS.points), dtype=np.int32)


@dataclass
class Gateway:
    """Outbox and intake at work."""

    outbox: Outbox
    intake: Intake
    clock: TurnedClock
    committing: asyncio.Task[None]

    async def readings(self) -> Columns:
        found = await self.outbox.fetch(0, ALL, 10_000)
        return concatenate([decode(one.body) for one in found if one.kind is Kind.READINGS])

    async def batches(self) -> int:
        found = await self.outbox.fetch(0, ALL, 10_000)
        return sum(one.kind is Kind.READINGS for one in found)


@asynccontextmanager
async def running(
    folder: Path, epoch: int = 1, section: OutboxSection = QUICK, points: PointSet = POINTS
) -> AsyncIterator[Gateway]:
    clock = TurnedClock()
    outbox, reason = await open_outbox(folder, points, clock, section)
    await outbox.begin(epoch)
    intake = Intake(outbox, section, clock)
    if reason is not None:
        intake.restarted(reason)
    try:
        async with asyncio.timeout(DEADLINE_S), asyncio.TaskGroup() as group:
            committing = group.create_task(intake.run())
            yield Gateway(outbox, intake, clock, committing)
            committing.cancel()
    finally:
        await outbox.close()


async def until(condition: Callable[[], Any]) -> None:
    """Wait for a condition, with a deadline."""
    async with asyncio.timeout(DEADLINE_S):
        while not condition():  # noqa: ASYNC110 - there is no event for what a file holds
            await asyncio.sleep(0.001)


def reading(
    at_us: int, *series: int, value: float = 1.0, quality: int = 0, device: str = "device"
) -> Answer:
    count = len(series)
    return Answer(device, Columns.of(series, [at_us] * count, [value] * count, [quality] * count))


def delivery(at_us: int, token: bytes, done: Callable[[], None]) -> Answer:
    return Answer("device", reading(at_us, 0).columns, (token,), 3, done)


def silence(missed: int | None = 1, reason: GapReason = GapReason.DEVICE_DOWN) -> Silence:
    return Silence("device", EVERY, reason, missed)


async def test_what_is_brought_within_the_window_is_committed_once_in_one_batch(
    tmp_path: Path,
) -> None:
    async with running(tmp_path, section=OutboxSection(commit_window_s=30)) as gateway:
        for nth in range(50):
            await gateway.intake.answer(reading(START_US + nth, 0, 3))
        await gateway.intake.flushed()
        columns = await gateway.readings()
        assert (len(columns), await gateway.batches()) == (100, 1)
        assert columns.observed_at[:50].tolist() == [START_US + nth for nth in range(50)]
        assert gateway.intake.dues.polled == 100


async def test_a_commit_is_made_early_when_many_readings_wait(tmp_path: Path) -> None:
    section = OutboxSection(commit_window_s=60, commit_readings=40)
    async with running(tmp_path, section=section) as gateway:
        for nth in range(6):
            await gateway.intake.answer(reading(START_US + nth, *range(8)))
        await until(lambda: gateway.outbox.index.ledger().pending == 48)


async def test_a_reading_is_committed_after_the_window_without_being_asked(tmp_path: Path) -> None:
    async with running(tmp_path) as gateway:
        await gateway.intake.answer(reading(START_US, 0))
        await until(lambda: gateway.outbox.index.ledger().pending == 1)


async def test_many_deliveries_that_wait_to_be_acknowledged_are_committed_before_the_window_ends(
    tmp_path: Path,
) -> None:
    """A broker that sends only so many ahead would else bring no more than those a window."""
    section = OutboxSection(commit_window_s=60)
    done: list[int] = []

    async def bring(gateway: Gateway, first: int, count: int) -> None:
        for nth in range(first, first + count):
            note = partial(done.append, nth)
            await gateway.intake.answer(delivery(START_US + nth, b"%d" % nth, note))

    async with running(tmp_path, section=section) as gateway:
        for turn in range(3):
            await bring(gateway, turn * PRESSING, PRESSING)
            await until(lambda: len(done) == (turn + 1) * PRESSING)  # noqa: B023 - awaited here
        tokens = tuple(b"many %d" % nth for nth in range(PRESSING))
        columns = reading(START_US + 1_000, 1).columns
        together = asyncio.Event()
        await gateway.intake.answer(Answer("device", columns, tokens, PRESSING, together.set))
        await together.wait()  # it counts as many as it has tokens
        few = PRESSING - 1
        await bring(gateway, 3 * PRESSING, few)
        assert len(done) == 3 * PRESSING, "a few wait for the end of the window"
        await gateway.intake.flushed()
        assert done == list(range(3 * PRESSING + few))
        assert await gateway.batches() == 5


async def test_a_delivery_is_done_after_its_commit_and_not_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(tmp_path) as gateway:
        at_done: list[int] = []
        gate, commit = asyncio.Event(), gateway.outbox.commit

        async def gated(*arguments: Any) -> None:
            await gate.wait()
            await commit(*arguments)

        monkeypatch.setattr(gateway.outbox, "commit", gated)  # a slow disk
        pending = gateway.outbox.index.ledger
        await gateway.intake.answer(
            delivery(START_US, b"1", lambda: at_done.append(pending().pending))
        )
        for _ in range(50):
            await asyncio.sleep(0.001)
        assert at_done == []
        gate.set()
        await gateway.intake.flushed()
        assert at_done == [1]


async def test_a_delivery_whose_commit_never_came_is_not_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[bytes] = []
    async with running(tmp_path) as gateway:

        async def stuck(*_: Any) -> None:
            await asyncio.Event().wait()

        monkeypatch.setattr(gateway.outbox, "commit", stuck)  # the power goes here
        await gateway.intake.answer(delivery(START_US, b"1", lambda: done.append(b"1")))
        await until(lambda: gateway.intake.dues.polled == 1)
        gateway.committing.cancel()
    assert done == []
    async with running(tmp_path, epoch=2) as gateway:
        assert gateway.intake.known_tokens("device") == ()
        await gateway.intake.answer(delivery(START_US, b"1", lambda: done.append(b"1")))
        await gateway.intake.flushed()
    assert done == [b"1"]


async def test_the_tokens_of_committed_deliveries_survive_a_crash(tmp_path: Path) -> None:
    run = tmp_path / "run"
    await asyncio.to_thread(run.mkdir)
    async with running(run) as gateway:
        for nth in range(5):
            await gateway.intake.answer(delivery(START_US + nth, bytes([nth]), lambda: None))
            await gateway.intake.flushed()
        assert gateway.intake.known_tokens("device") == (b"\2", b"\3", b"\4")
        after_commits = copied(run, tmp_path / "commits")
        gateway.outbox.index.settle([told(1, [0, 1, 2, 3, 4], 5)])
        await gateway.outbox.flush(now=True)
        after_flush = copied(run, tmp_path / "flush")
    for folder in (after_commits, after_flush):
        async with running(folder, epoch=2) as gateway:
            assert gateway.intake.known_tokens("device") == (b"\2", b"\3", b"\4")


async def test_tokens_do_not_age_while_the_gateway_is_off_nor_by_a_device_with_a_wrong_clock(
    tmp_path: Path,
) -> None:
    an_hour_us = 3_600_000_000

    async def deliver(gateway: Gateway, token: bytes, at_us: int) -> None:
        columns = reading(at_us, int(token)).columns
        await gateway.intake.answer(Answer("device", columns, (token,), 10))
        await gateway.intake.flushed()

    async with running(tmp_path) as gateway:
        await deliver(gateway, b"1", START_US)
        await deliver(gateway, b"2", START_US + an_hour_us)
        await deliver(gateway, b"3", START_US)
    async with running(tmp_path, epoch=2) as gateway:
        gateway.clock.at_us += 24 * an_hour_us
        gateway.clock.at_s += 30
        await deliver(gateway, b"4", gateway.clock.at_us)
        assert gateway.intake.known_tokens("device") == (b"1", b"2", b"3", b"4")
        gateway.clock.at_s += 110
        await deliver(gateway, b"5", gateway.clock.at_us)
        assert gateway.intake.known_tokens("device") == (b"4", b"5")


async def test_whoever_brings_too_much_waits_and_nothing_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake_module, "WAITING_READINGS", 40)
    monkeypatch.setattr(intake_module, "WAITING_ITEMS", 8)
    brought: list[int] = []
    async with running(tmp_path) as gateway:
        gate, commit = asyncio.Event(), gateway.outbox.commit

        async def gated(*arguments: Any) -> None:
            await gate.wait()
            await commit(*arguments)

        monkeypatch.setattr(gateway.outbox, "commit", gated)  # a slow disk

        async def bring(nth: int) -> None:
            for turn in range(4):
                await gateway.intake.answer(reading(START_US + 100 * turn, nth))
                await gateway.intake.silence(silence())
                brought.append(nth)

        async with asyncio.TaskGroup() as devices:
            for nth in range(8):
                devices.create_task(bring(nth))
            for _ in range(100):
                await asyncio.sleep(0.001)
            assert len(brought) < 32
            assert len(gateway.intake._queue) <= 8
            gate.set()
        await gateway.intake.flushed()
        assert len(await gateway.readings()) == 32


@pytest.mark.parametrize("times", [1, 3])
async def test_a_commit_that_finds_the_disk_full_is_tried_again_without_loss_or_doubling(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    monkeypatch.setattr(intake_module, "Backoff", lambda **_: Soon())
    async with running(tmp_path) as gateway:
        append, left = gateway.outbox._file.append, [times]

        def sometimes_full(*arguments: Any) -> None:
            if left[0]:
                left[0] -= 1
                raise OutboxFull("no room")
            append(*arguments)

        monkeypatch.setattr(gateway.outbox._file, "append", sometimes_full)
        done: list[int] = []
        await gateway.intake.answer(delivery(START_US, b"1", lambda: done.append(1)))
        await gateway.intake.answer(reading(START_US, *range(1, 8)))
        await gateway.intake.flushed()
        assert (len(await gateway.readings()), done, left) == (8, [1], [0])
        assert gateway.outbox.index.ledger().produced == 8


@dataclass
class Soon:
    """A back-off without a wait."""

    failures: int = 0

    def next_s(self) -> float:
        self.failures += 1
        return 0.0


async def test_a_silent_device_leaves_a_gap_with_its_exact_interval_and_cost(
    tmp_path: Path,
) -> None:
    async with running(tmp_path) as gateway:
        await gateway.intake.answer(reading(START_US + 10, *EVERY.tolist()))
        for _ in range(3):
            await gateway.intake.silence(silence())
            await gateway.intake.flushed()
        await gateway.intake.answer(reading(START_US + 900, *EVERY.tolist()))
        await gateway.intake.flushed()
        (gap,) = await gaps_in(gateway.outbox)
        assert (gap["from_us"], gap["to_us"], gap["missed"]) == (START_US + 10, START_US + 900, 3)
        assert (gap["cause"], gap["reason"], gap["count"]) == ("missed", "device_down", 0)
        assert gap["series"] == [[0, 7]]
        assert gateway.intake.dues.missed == 24


async def test_the_reading_that_tells_of_the_silence_lies_inside_the_gap(tmp_path: Path) -> None:
    async with running(tmp_path) as gateway:
        await gateway.intake.answer(reading(START_US + 10, *EVERY.tolist()))
        gateway.clock.at_us = START_US + 500
        told_so = Silence("device", EVERY, GapReason.DEVICE_DOWN, 1, Reason.LINK_DOWN)
        await gateway.intake.silence(told_so)
        await gateway.intake.answer(reading(START_US + 900, 0, 1))
        await gateway.intake.flushed()
        columns = await gateway.readings()
        bads = columns.observed_at[columns.quality == bad(Reason.LINK_DOWN)]
        assert set(bads.tolist()) == {START_US + 500}
        assert np.isnan(columns.value[columns.quality != 0]).all()
        (gap,) = await gaps_in(gateway.outbox)
        assert (gap["from_us"], gap["to_us"], gap["series"]) == (
            START_US + 10,
            START_US + 900,
            [[0, 1]],
        )


async def test_an_overrun_is_a_gap_between_two_answers(tmp_path: Path) -> None:
    async with running(tmp_path) as gateway:
        await gateway.intake.answer(reading(START_US + 10, 2))
        await gateway.intake.silence(
            Silence("device", np.array([2], np.int32), GapReason.OVERRUN, 4)
        )
        await gateway.intake.answer(reading(START_US + 60, 2))
        await gateway.intake.flushed()
        (gap,) = await gaps_in(gateway.outbox)
        assert (gap["reason"], gap["missed"], gap["series"]) == ("overrun", 4, [[2, 2]])
        assert (gap["from_us"], gap["to_us"]) == (START_US + 10, START_US + 60)


@pytest.mark.parametrize(("cleanly", "reason"), [(True, "stopped"), (False, "restart")])
async def test_a_restart_is_a_gap_from_the_last_committed_to_the_first_new_answer(
    tmp_path: Path, cleanly: bool, reason: str
) -> None:
    run = tmp_path / "run"
    await asyncio.to_thread(run.mkdir)
    async with running(run) as gateway:
        await gateway.intake.answer(reading(START_US + 10, 0, 1))
        await gateway.intake.answer(reading(START_US + 20, 1))
        await gateway.intake.flushed()
        crashed = copied(run, tmp_path / "crashed")
    async with running(run if cleanly else crashed, epoch=2) as gateway:
        await gateway.intake.answer(reading(START_US + 700, 0, 1, 2))
        await gateway.intake.flushed()
        gaps = {
            one["series"][0][0]: (one["from_us"], one["to_us"], one["reason"], one["missed"])
            for one in await gaps_in(gateway.outbox)
        }
        assert gaps == {
            0: (START_US + 10, START_US + 700, reason, None),
            1: (START_US + 20, START_US + 700, reason, None),
            # A point that never answered is missing since the gateway first knew of it.
            2: (START_US, START_US + 700, reason, None),
        }


async def test_a_repeat_after_a_restart_is_no_new_answer(tmp_path: Path) -> None:
    async with running(tmp_path) as gateway:
        await gateway.intake.answer(reading(START_US + 10, 0))
        await gateway.intake.flushed()
    async with running(tmp_path, epoch=2) as gateway:
        await gateway.intake.answer(reading(START_US + 10, 0))
        await gateway.intake.answer(reading(START_US + 99, 0))
        await gateway.intake.flushed()
        (gap,) = await gaps_in(gateway.outbox)
        assert (gap["from_us"], gap["to_us"]) == (START_US + 10, START_US + 99)
        assert (gateway.intake.dues.repeats, len(await gateway.readings())) == (1, 2)


async def test_time_goes_on_upwards_after_a_restart(tmp_path: Path) -> None:
    async with running(tmp_path) as gateway:
        await gateway.intake.answer(reading(START_US + 10, 0, value=1.0))
        await gateway.intake.flushed()
    async with running(tmp_path, epoch=2) as gateway:
        await gateway.intake.answer(reading(START_US + 10, 0, value=2.0))
        await gateway.intake.flushed()
        columns = await gateway.readings()
        assert columns.observed_at.tolist() == [START_US + 10, START_US + 11]
        assert int(columns.quality[1]) == Flag.TIME_ADJUSTED


async def test_many_thousand_gaps_are_sealed_in_several_batches(tmp_path: Path) -> None:
    points = PointSet(tuple(Point(f"p{nth}") for nth in range(12_000)))
    rows = list(range(len(points.points)))
    async with running(tmp_path, points=points) as gateway:
        columns = Columns.of(rows, [START_US + 5 * row for row in rows], rows, [0] * len(rows))
        await gateway.intake.answer(Answer("device", columns))
        await gateway.intake.flushed()
    async with running(tmp_path, epoch=2, points=points) as gateway:
        await gateway.intake.answer(reading(START_US + 10**6, *rows))
        await gateway.intake.flushed()
        found = await gateway.outbox.fetch(0, ALL, 100)
        events = [one for one in found if one.kind is Kind.EVENTS]
        assert len(events) > 1
        assert sum(one.count for one in events) == len(rows)
        assert sum(len(decode_events(one.body)) for one in events) == len(rows)


async def test_long_texts_are_sealed_in_several_batches(tmp_path: Path) -> None:
    async with running(tmp_path, section=OutboxSection(commit_window_s=30)) as gateway:
        for nth in range(400):
            text = {0: chr(65 + nth % 26) * 8_000}
            columns = Columns.of([0], [START_US + nth], [math.nan], [0], text)
            await gateway.intake.answer(Answer("device", columns))
        await gateway.intake.flushed()
        columns = await gateway.readings()
        assert (len(columns), len(columns.texts)) == (400, 400)
        assert await gateway.batches() > 2


async def test_flags_are_added_to_what_is_committed(tmp_path: Path) -> None:
    outbox, _ = await open_outbox(tmp_path, POINTS, TurnedClock(), QUICK)
    await outbox.begin(1)
    intake = Intake(outbox, QUICK, TurnedClock(), flags=lambda: int(Flag.CLOCK_UNSYNCHRONISED))
    async with asyncio.timeout(DEADLINE_S), asyncio.TaskGroup() as group:
        committing = group.create_task(intake.run())
        await intake.answer(reading(START_US, 0))
        await intake.flushed()
        committing.cancel()
    (batch,) = await outbox.fetch(0, ALL, 9)
    assert decode(batch.body).quality.tolist() == [Flag.CLOCK_UNSYNCHRONISED]
    await outbox.close()


async def test_an_answer_soon_after_the_silence_keeps_its_time_and_its_repeats(
    tmp_path: Path,
) -> None:
    # Found by `make chaos`: a device fell silent and answered again within one commit window.
    async with running(tmp_path, section=OutboxSection(commit_window_s=30)) as gateway:
        gateway.clock.at_us = START_US + 500
        told_so = Silence("device", EVERY, GapReason.DEVICE_DOWN, 1, Reason.LINK_DOWN)
        await gateway.intake.silence(told_so)
        await gateway.intake.answer(reading(START_US + 700, 0))
        await gateway.intake.answer(reading(START_US + 800, 0))
        gateway.clock.at_us = START_US + 900
        await gateway.intake.flushed()
        columns = await gateway.readings()
        good = columns.quality == 0
        assert columns.observed_at[good].tolist() == [START_US + 700, START_US + 800]
