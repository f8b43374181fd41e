"""What the tests of outbox, recovery and intake stand on: commits, receipts, states, copies."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apsw
import msgpack
import numpy as np
import pytest

from edge.outbox import Outbox
from edge.recent import Recent
from edge.recovery import open_outbox
from edge.sealed import Draft
from edge.settings import OutboxSection
from shared.batch import decode_events, encode
from shared.clock import Clock
from shared.columns import Columns
from shared.link import Settled, ranges_of
from shared.model import Kind, Point, PointSet

POINTS = PointSet(tuple(Point(f"p{nth}") for nth in range(8)))
START_US = 1_790_000_000_000_000
SETTINGS = OutboxSection()
ALL = 2**60


@dataclass
class TurnedClock:
    """A clock that goes on by hand."""

    at_us: int = START_US
    at_s: float = 0.0

    def now_us(self) -> int:
        return self.at_us

    def monotonic_s(self) -> float:
        return self.at_s


async def opened(
    folder: Path, epoch: int, clock: Clock | None = None, section: OutboxSection = SETTINGS
) -> Outbox:
    outbox, _ = await open_outbox(folder, POINTS, clock or TurnedClock(), section)
    await outbox.begin(epoch)
    return outbox


async def commit(outbox: Outbox, count: int, at_us: int, tokens: bytes | None = None) -> None:
    rows = [nth % len(POINTS.points) for nth in range(count)]
    times = [at_us + nth for nth in range(count)]
    values = np.random.default_rng(at_us).random(count)
    columns = Columns.of(rows, times, values, [0] * count)
    tail = outbox.tail.copy()
    tail.absorb(columns)
    if tokens is not None:
        for device, (kept, known) in msgpack.unpackb(tokens).items():
            tail.remember(device, known, 0, kept)
    draft = Draft(
        Kind.READINGS, count, times[0], times[-1], outbox.tail.point_set.hash, encode(columns)
    )
    await outbox.commit([draft], tail, tokens)


def told(epoch: int, seqs: list[int], delivered: int, collapsed: int = 0) -> Settled:
    return Settled(
        epoch=epoch,
        seqs=ranges_of(seqs),
        delivered=delivered,
        collapsed=collapsed,
        quarantined=0,
    )


async def gaps_in(outbox: Outbox) -> list[dict[str, Any]]:
    found = await outbox.fetch(0, ALL, 10_000)
    events = [decode_events(one.body) for one in found if one.kind is Kind.EVENTS]
    return [event for several in events for event in several]


def state_of(outbox: Outbox) -> tuple[Any, ...]:
    """What has to come back when the file set is opened again."""
    return (
        outbox.index.ledger(),
        sorted(outbox.index.pending()),
        outbox.tail.last_at.tolist(),
        outbox.tail.last_value.tobytes(),
        {name: list(kept) for name, kept in outbox.tail.tokens.items()},
    )


def spoil(outbox: Outbox, statement: str) -> None:
    """Change the file behind the outbox's back, when nothing of it is in memory any more."""
    outbox._file._db.execute(statement)
    outbox._recent = Recent()


def damaged_in(folder: Path) -> list[Path]:
    """List the files that were put aside."""
    return sorted(folder.glob("outbox-damaged*.db"))


def copied(folder: Path, to: Path) -> Path:
    """Copy the file set as a power cut or an image of the card finds it."""
    to.mkdir()
    for path in folder.glob("outbox*"):
        shutil.copy(path, to / path.name)
    return to


@pytest.fixture
def no_open_outbox() -> Iterator[None]:
    """Every test closes what it opened."""
    before = len(apsw.connections())
    yield
    assert len(apsw.connections()) == before
