"""A disk that fails to sync, and a clock that jumps by a day: nothing is lost."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import apsw
import numpy as np
import pytest

from edge.answers import Answer
from edge.intake import Intake
from edge.settings import OutboxSection
from edge.sqlite import OutboxBroken
from shared.batch import decode
from shared.columns import Columns, concatenate
from shared.model import Kind
from shared.quality import Flag
from tests.integration.outbox_kit import ALL, START_US, TurnedClock, commit, no_open_outbox, opened

pytestmark = pytest.mark.usefixtures(no_open_outbox.__name__)

DAY_US = 86_400 * 1_000_000
_SYSTEM = apsw.vfs_names()[0]


@dataclass
class Fault:
    """Whether the disk fails to sync now."""

    is_on: bool = False


class _Vfs(apsw.VFS):
    def __init__(self, fault: Fault) -> None:
        self._fault = fault
        super().__init__("failing", _SYSTEM, makedefault=True)

    def xOpen(  # noqa: N802 - SQLite's name
        self, name: str | apsw.URIFilename | None, flags: list[int]
    ) -> apsw.VFSFile:
        return _File(self._fault, name, flags)


class _File(apsw.VFSFile):
    def __init__(self, fault: Fault, name: str | apsw.URIFilename | None, flags: list[int]) -> None:
        self._fault = fault
        super().__init__(_SYSTEM, name, flags)

    def xSync(self, flags: int) -> None:  # noqa: N802 - SQLite's name
        if self._fault.is_on:
            raise apsw.IOError("EIO for the test")
        super().xSync(flags)


@pytest.fixture
def fault() -> Iterator[Fault]:
    """Put a disk under SQLite that fails when told so."""
    one = Fault()
    vfs = _Vfs(one)
    yield one
    vfs.unregister()


async def test_a_commit_whose_sync_fails_is_refused_and_what_was_committed_stays(
    tmp_path: Path, fault: Fault
) -> None:
    outbox = await opened(tmp_path, 1)
    for nth in range(5):
        await commit(outbox, 40, START_US + 100 * nth)
    fault.is_on = True
    with pytest.raises(OutboxBroken, match="disk failed"):
        await commit(outbox, 40, START_US + 1_000)
    assert outbox.index.ledger().produced == 200
    fault.is_on = False
    await outbox.close()
    again = await opened(tmp_path, 2)
    assert (again.index.ledger().produced, again.index.ledger().imbalance()) == (200, 0)
    assert again.index.ledger().pending == 200
    await again.close()


@pytest.mark.parametrize("jump_us", [DAY_US, -DAY_US])
async def test_a_clock_that_jumps_a_day_and_back_loses_no_reading(
    tmp_path: Path, jump_us: int
) -> None:
    clock = TurnedClock()
    outbox = await opened(tmp_path, 1, clock)
    intake = Intake(outbox, OutboxSection(commit_window_s=0.02), clock)
    committing = asyncio.create_task(intake.run())
    for nth in range(30):
        clock.at_us += 1_000_000 + (jump_us if nth == 10 else -jump_us if nth == 20 else 0)
        await intake.answer(Answer("device", Columns.of([0], [clock.at_us], [nth], [0])))
        await intake.flushed()
    committing.cancel()
    found = [one for one in await outbox.fetch(0, ALL, 1_000) if one.kind is Kind.READINGS]
    readings = concatenate([decode(one.body) for one in found])
    assert readings.value.tolist() == list(range(30))
    assert len(np.unique(readings.observed_at)) == 30
    assert ((readings.quality & Flag.TIME_ADJUSTED) > 0).any()
    ledger = outbox.index.ledger()
    assert (ledger.produced, ledger.gaps, ledger.imbalance()) == (30, 0, 0)
    await outbox.close()
