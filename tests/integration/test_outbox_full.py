"""The outbox on a disk that is full: nothing changes, nothing is lost, it goes on with room."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from edge.holes import GapReason
from edge.outbox import Outbox
from edge.recovery import FILE_NAME, read_outbox
from edge.sqlite import OutboxFull
from tests.integration.outbox_kit import (
    ALL,
    START_US,
    commit,
    copied,
    no_open_outbox,
    opened,
    state_of,
    told,
)
from tests.servers.disk import small_disk

pytestmark = pytest.mark.usefixtures(no_open_outbox.__name__)


def no_room(*_: Any) -> Any:
    raise OutboxFull("no room")


async def test_a_full_disk_changes_nothing_and_the_same_commit_works_later(tmp_path: Path) -> None:
    outbox = await opened(tmp_path, 1)
    await commit(outbox, 5, START_US)
    before = state_of(outbox)
    with full(outbox):
        for _ in range(3):
            with pytest.raises(OutboxFull, match="disk is full"):
                await commit(outbox, 5_000, START_US + 1_000, b"\x80")
            assert state_of(outbox) == before
    await commit(outbox, 5_000, START_US + 1_000, b"\x80")
    assert outbox.index.ledger().pending == 5_005
    assert [one.seq for one in await outbox.fetch(0, ALL, 10)] == [0, 1]
    other = await opened(copied(tmp_path, tmp_path / "copy"), 2)
    assert state_of(other) == state_of(outbox)
    await outbox.close()
    await other.close()


async def test_an_epoch_begun_on_a_full_disk_is_begun_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outbox = await opened(tmp_path, 1)
    with monkeypatch.context() as patched:
        patched.setattr(outbox._file, "write_tail", no_room)
        for _ in range(3):
            with pytest.raises(OutboxFull):
                await outbox.begin(2)
    await outbox.begin(2)
    await commit(outbox, 5, START_US)
    other = await opened(copied(tmp_path, tmp_path / "copy"), 3)
    assert list(other.index.epochs) == [1, 2, 3]
    assert state_of(other)[0] == state_of(outbox)[0]
    await outbox.close()
    await other.close()


async def test_a_disk_too_full_for_the_tail_is_no_failed_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outbox = await opened(tmp_path, 1)
    await commit(outbox, 5, START_US)
    with monkeypatch.context() as patched:
        patched.setattr(outbox._file, "write_tail", no_room)
        for nth in range(1, 400):
            await commit(outbox, 1, START_US + 10 * nth)
    assert outbox.index.ledger().pending == 404
    other = await opened(copied(tmp_path, tmp_path / "copy"), 2)
    assert state_of(other)[0] == state_of(outbox)[0]
    await outbox.close()
    await other.close()


async def test_on_a_full_disk_receipts_wait_and_nothing_is_dropped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outbox = await opened(tmp_path, 1)
    for nth in range(10):
        await commit(outbox, 3_000, START_US + 10_000 * nth)
    outbox.index.settle([told(1, [0], 3_000)])
    batches = await outbox.fetch(0, ALL, 5)
    with monkeypatch.context() as patched:
        patched.setattr(outbox._file, "settle", no_room)
        patched.setattr(outbox._file, "drop", no_room)
        await outbox.flush(now=True)
        await outbox.drop(batches, GapReason.OUTBOX_FULL)
    assert (outbox.index.ledger().pending, outbox.index.ledger().gaps) == (30_000, 0)
    await outbox.flush(now=True)
    assert outbox.index.ledger().pending == 27_000
    await outbox.close()


async def test_a_disk_that_really_fills_loses_nothing(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", megabytes=2) as disk:
        ballast = disk / "ballast"
        ballast.write_bytes(bytes(1_000_000))
        outbox = await opened(disk, 1)
        written = await _commit_until_full(outbox)
        assert written > 5_000
        assert outbox.index.ledger().pending == written
        await asyncio.to_thread(ballast.unlink)
        await commit(outbox, 1_000, START_US + 10**9)
        outbox.index.settle([told(1, list(range(5)), 5_000)])
        await outbox.flush(now=True)
        assert outbox.index.ledger().pending == written - 4_000
        await outbox.close()
        ledger = read_outbox(disk / FILE_NAME)[0]
        assert (ledger.produced, ledger.delivered) == (written + 1_000, 5_000)


async def _commit_until_full(outbox: Outbox) -> int:
    for nth in range(1_000):
        try:
            await commit(outbox, 1_000, START_US + 1_000 * nth)
        except OutboxFull:
            return 1_000 * nth
    pytest.fail("the disk never filled")


class full:  # noqa: N801 - reads as a statement
    """A disk with no room, for as long as the block lasts."""

    def __init__(self, outbox: Outbox) -> None:
        self._db = outbox._file._db

    def _limit(self, pages: int) -> None:
        self._db.execute(f"PRAGMA max_page_count={pages}").fetchall()

    def __enter__(self) -> None:
        self._limit(1)

    def __exit__(self, *_: object) -> None:
        self._limit(2**30)
