"""The outbox on a real file: commits, receipts, drops, caps, one holder, a restored copy."""

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from edge.holes import GapReason
from edge.outbox import Outbox
from edge.recovery import FILE_NAME, open_outbox, read_outbox
from edge.sealed import Sealed
from edge.settings import OutboxSection
from edge.sqlite import OutboxHeld
from shared.batch import decode
from shared.clock import SystemClock
from shared.model import Kind, PointClass
from tests.integration.outbox_kit import (
    ALL,
    POINTS,
    SETTINGS,
    START_US,
    TurnedClock,
    commit,
    copied,
    damaged_in,
    gaps_in,
    no_open_outbox,
    opened,
    state_of,
    told,
)

pytestmark = pytest.mark.usefixtures(no_open_outbox.__name__)


async def test_a_committed_batch_comes_back_byte_for_byte(tmp_path: Path) -> None:
    outbox = await opened(tmp_path, 1)
    await commit(outbox, 20, START_US)
    (before,) = await outbox.fetch(0, ALL, 10)
    other = await opened(copied(tmp_path, tmp_path / "copy"), 2)
    assert await other.fetch(0, ALL, 10) == [before]
    assert (before.epoch, before.seq, before.count) == (1, 0, 20)
    assert other.index.ledger().pending == 20
    await outbox.close()
    await other.close()


async def test_settled_batches_are_hidden_at_once_and_deleted_together(tmp_path: Path) -> None:
    clock = TurnedClock()
    outbox = await opened(tmp_path, 1, clock)
    for nth in range(4):
        await commit(outbox, 5, START_US + 10 * nth)
    outbox.index.settle([told(1, [0, 2], 10)])
    assert [one.seq for one in await outbox.fetch(0, ALL, 10)] == [1, 3]
    await outbox.flush()
    assert outbox.index.ledger().pending == 20
    clock.at_s += 10
    await outbox.flush()
    assert outbox.index.ledger().pending == 10
    assert outbox.index.ledger().imbalance() == 0
    await outbox.close()


async def test_pending_batches_are_found_behind_many_settled_ones(tmp_path: Path) -> None:
    outbox = await opened(tmp_path, 1)
    for nth in range(200):
        await commit(outbox, 1, START_US + nth)
    outbox.index.settle([told(1, list(range(150)), 150)])
    found = await outbox.fetch(0, ALL, 16)
    assert [one.seq for one in found] == list(range(150, 166))
    await outbox.close()


async def test_a_drop_is_declared_with_its_count_in_the_same_commit(tmp_path: Path) -> None:
    outbox = await opened(tmp_path, 1)
    for nth in range(3):
        await commit(outbox, 5, START_US + 100 * nth)
    await outbox.drop(await outbox.fetch(0, ALL, 2), GapReason.TOO_OLD)
    gaps = await gaps_in(outbox)
    assert {(gap["cause"], gap["reason"], gap["count"]) for gap in gaps} == {
        ("dropped", "too_old", 2)
    }
    assert [gap["voided"] for gap in gaps] == [[{"epoch": 1, "seqs": [[0, 1]]}], *([[]] * 4)]
    for nth, gap in enumerate(gaps):
        assert gap["series"] == [[nth, nth]]
        assert (gap["from_us"], gap["to_us"]) == (START_US + nth - 1, START_US + nth + 101)
    other = await opened(copied(tmp_path, tmp_path / "copy"), 2)
    assert state_of(other) == state_of(outbox)
    await outbox.close()
    await other.close()


async def test_what_central_settled_meanwhile_is_not_dropped(tmp_path: Path) -> None:
    outbox = await opened(tmp_path, 1)
    await commit(outbox, 5, START_US)
    await commit(outbox, 5, START_US + 10)
    both = await outbox.fetch(0, ALL, 2)
    outbox.index.settle([told(1, [0], 5)])
    await outbox.drop(both, GapReason.OUTBOX_FULL)
    await outbox.flush(now=True)
    ledger = outbox.index.ledger()
    assert (ledger.delivered, ledger.gaps, ledger.pending, ledger.elsewhere) == (5, 5, 0, 0)
    await outbox.close()


async def test_the_outbox_stays_under_its_cap_and_declares_what_that_costs(tmp_path: Path) -> None:
    section = OutboxSection(max_bytes=1024 * 1024)
    outbox = await opened(tmp_path, 1, section=section)
    produced = 0
    while await outbox.used_bytes() < 3 * section.max_bytes:
        await commit(outbox, 1_000, START_US + produced)
        produced += 1_000
    # Many events below the readings must not keep the caps from finding these.
    for one in await outbox.fetch(0, ALL, 100):
        await outbox.drop([one], GapReason.TOO_LARGE)
    for _ in range(50):
        await commit(outbox, 1_000, START_US + produced)
        produced += 1_000
    await outbox.keep_caps()
    assert await outbox.used_bytes() <= section.max_bytes
    ledger = outbox.index.ledger()
    assert (ledger.produced, ledger.imbalance()) == (produced, 0)
    assert 0 < ledger.pending < produced
    gaps = await gaps_in(outbox)
    assert {gap["reason"] for gap in gaps} == {"too_large", "outbox_full"}
    assert sum(gap["count"] for gap in gaps) == ledger.gaps
    oldest = (await outbox.fetch(0, ALL, 1, sort=(Kind.READINGS, PointClass.NORMAL)))[0]
    assert oldest.t0 > START_US + 200_000
    await outbox.close()


async def test_what_is_too_old_is_dropped_and_nothing_else(tmp_path: Path) -> None:
    clock = TurnedClock()
    outbox = await opened(tmp_path, 1, clock, OutboxSection(max_age_s=60))
    for nth in range(100):
        await commit(outbox, 2, START_US + nth * 1_000_000)
    clock.at_us = START_US + 130 * 1_000_000
    await outbox.keep_caps()
    left = await outbox.fetch(0, ALL, 1_000, sort=(Kind.READINGS, PointClass.NORMAL))
    assert left[0].t1 >= clock.at_us - 60_000_000
    assert len(left) == 30
    assert {gap["reason"] for gap in await gaps_in(outbox)} == {"too_old"}
    await outbox.close()


async def test_a_cancelled_commit_is_in_the_index_if_it_is_in_the_file(tmp_path: Path) -> None:
    outbox = await opened(tmp_path, 1)
    for nth in range(20):
        task = asyncio.ensure_future(commit(outbox, 3, START_US + 10 * nth))
        for _ in range(nth % 5):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
    in_file = await outbox.fetch(0, ALL, 100)
    assert [(one.epoch, one.seq) for one in in_file] == [(1, nth) for nth in range(len(in_file))]
    assert outbox.index.ledger().pending == 3 * len(in_file)
    await outbox.close()


async def test_a_cancelled_flush_leaves_the_books_as_the_file_is(tmp_path: Path) -> None:
    outbox = await opened(tmp_path, 1)
    for nth in range(5):
        await commit(outbox, 3, START_US + 10 * nth)
    outbox.index.settle([told(1, [0, 1], 6)])
    task = asyncio.ensure_future(outbox.flush(now=True))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    await outbox.close()
    ledger = read_outbox(tmp_path / FILE_NAME)[0]
    assert (ledger.produced, ledger.delivered, ledger.pending, ledger.imbalance()) == (15, 6, 9, 0)


async def test_the_tail_is_written_anew_now_and_then(tmp_path: Path) -> None:
    outbox = await opened(tmp_path, 1)
    for nth in range(600):
        await commit(outbox, 1, START_US + nth)
    written = outbox._file.tail()
    assert written is not None
    assert outbox.index.next_id - written[0] < 300
    await outbox.close()


async def test_a_second_process_is_told_that_the_outbox_is_held(tmp_path: Path) -> None:
    outbox = await opened(tmp_path, 1)
    await commit(outbox, 5, START_US)
    script = (
        "import sys; from pathlib import Path\n"
        "from edge.segments import SegmentFile; from edge.sqlite import OutboxHeld\n"
        "try: SegmentFile(Path(sys.argv[1]))\n"
        "except OutboxHeld as error: print(error)"
    )
    command = [sys.executable, "-c", script, str(tmp_path / FILE_NAME)]
    answer = await asyncio.to_thread(
        subprocess.run, command, capture_output=True, check=True, text=True, timeout=30
    )
    assert "held by a running gateway" in answer.stdout
    await commit(outbox, 5, START_US + 100)
    assert not damaged_in(tmp_path)
    await outbox.close()


async def test_an_outbox_that_is_held_is_not_taken_for_damaged(tmp_path: Path) -> None:
    outbox = await opened(tmp_path, 1)
    with pytest.raises(OutboxHeld):
        await open_outbox(tmp_path, POINTS, SystemClock(), SETTINGS)
    await outbox.close()


async def test_a_new_epoch_gets_ids_above_all_that_ever_were(tmp_path: Path) -> None:
    outbox = await opened(tmp_path, 1)
    for nth in range(5):
        await commit(outbox, 2, START_US + 10 * nth)
    outbox.index.settle([told(1, list(range(5)), 10)])
    await outbox.close()
    other = await opened(tmp_path, 2)
    assert other.index.next_id == 6
    await commit(other, 2, START_US + 1_000)
    assert [(one.epoch, one.seq) for one in await other.fetch(0, ALL, 9)] == [(2, 0)]
    await other.close()


async def test_a_restored_old_copy_doubles_nothing_and_loses_nothing(tmp_path: Path) -> None:
    delivered: dict[tuple[int, int], Sealed] = {}
    run, old = tmp_path / "run", tmp_path / "old"
    run.mkdir()

    async def deliver(outbox: Outbox) -> None:
        """Send everything to a central that keeps batches by name, and settle it."""
        for one in await outbox.fetch(0, ALL, 1_000):
            assert delivered.setdefault((one.epoch, one.seq), one).body == one.body
        for epoch, _ in outbox.index.pending():
            here = {seq: one for (e, seq), one in delivered.items() if e == epoch}
            count = sum(one.count for one in here.values())
            outbox.index.settle([told(epoch, list(here), count)])
        await outbox.flush(now=True)

    outbox = await opened(run, 1)
    for nth in range(10):
        await commit(outbox, 4, START_US + 100 * nth)
    copied(run, old)
    for nth in range(10, 20):
        await commit(outbox, 4, START_US + 100 * nth)
    await deliver(outbox)
    await outbox.close()

    restored = await opened(old, 2)
    for nth in range(20, 25):
        await commit(restored, 4, START_US + 100 * nth)
    await deliver(restored)
    times = [at for one in delivered.values() for at in decode(one.body).observed_at.tolist()]
    assert len(times) == len(set(times)) == 25 * 4
    ledger = restored.index.ledger()
    assert (ledger.pending, ledger.imbalance(), ledger.elsewhere) == (0, 0, 40)
    await restored.close()
