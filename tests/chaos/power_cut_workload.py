"""What a gateway does to its outbox, recorded: the process whose power is cut again and again.

`python -m tests.chaos.power_cut_workload FOLDER TRACE --seed N`. The trace also holds marks of what
was promised at which moment: a commit returned, a device was told that its delivery is safe,
central told what it settled.
"""

import argparse
import asyncio
import os
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

import msgpack
import numpy as np

from edge import recovery
from edge.answers import Answer, Silence
from edge.holes import GapReason
from edge.intake import Intake
from edge.outbox import Outbox
from edge.sealed import Draft
from edge.segments import SegmentFile
from edge.settings import OutboxSection
from edge.tail import Tail
from shared.clock import SystemClock
from shared.columns import Columns
from shared.link import Settled, ranges_of
from shared.model import Kind, Point, PointClass, PointSet
from tests.chaos.power_cut_recorder import Recorder

POINTS: Final = PointSet(tuple(Point(f"device/p{nth}") for nth in range(12)))
DEVICE: Final = "device"
TOKENS_KEPT: Final = 20
SETTINGS: Final = OutboxSection(commit_window_s=0.02)
DEADLINE_S: Final = 60.0
CHECKPOINT_PAGES: Final = 40
"""Far fewer than SQLite's 1,000, so that a short trace has many checkpoints."""


@dataclass(slots=True)
class Central:
    """What the far end has settled, and tells."""

    settled: dict[int, set[int]] = field(default_factory=dict)
    delivered: dict[int, int] = field(default_factory=dict)

    def settle(self, epoch: int, counts: dict[int, int]) -> Settled:
        """Settle batches of an epoch, given with their readings."""
        self.settled.setdefault(epoch, set()).update(counts)
        self.delivered[epoch] = self.delivered.get(epoch, 0) + sum(counts.values())
        return Settled(
            epoch=epoch,
            seqs=ranges_of(list(counts)),
            delivered=self.delivered[epoch],
            collapsed=0,
            quarantined=0,
        )


class MarkedOutbox(Outbox):
    """The outbox, noting in the trace what a commit has promised."""

    recorder: Recorder

    async def commit(
        self, drafts: Sequence[Draft], tail: Tail, tokens: bytes | None, held_upto: int = 0
    ) -> None:
        """Commit, then note each batch."""
        row, seq = self.index.current.row, self.index.next_seq
        await super().commit(drafts, tail, tokens, held_upto)
        for nth, draft in enumerate(drafts, seq):
            self.note(row.epoch, nth, draft)

    def note(self, epoch: int, seq: int, draft: Draft) -> None:
        """Note a batch that is committed."""
        facts = {"epoch": epoch, "seq": seq, "body": draft.body, "count": draft.count}
        self.recorder.mark("batch", **facts, kind=draft.kind.value)


@dataclass(slots=True)
class Workload:
    """One seeded run of the gateway's writing half."""

    folder: Path
    recorder: Recorder
    rng: random.Random
    central: Central = field(default_factory=Central)
    counter: int = 0

    async def run(self, generations: int, rounds: int) -> None:
        """Open the outbox, write, stop; so many times."""
        for _ in range(generations):
            outbox = await self.opened()
            intake = Intake(outbox, SETTINGS, SystemClock())
            async with asyncio.TaskGroup() as group:
                committing = group.create_task(intake.run())
                async with asyncio.timeout(DEADLINE_S):
                    for _ in range(rounds):
                        await self._step(outbox, intake)
                        await intake.flushed()
                committing.cancel()
            await outbox.close()
            self.recorder.mark("closed")

    async def opened(self) -> MarkedOutbox:
        """Open the outbox as the gateway does, in a new epoch."""
        plain, _ = await recovery.open_outbox(self.folder, POINTS, SystemClock(), SETTINGS)
        outbox = MarkedOutbox(plain._file, plain.index, plain.tail, SystemClock(), SETTINGS)
        outbox.recorder = self.recorder
        outbox._file._db.wal_autocheckpoint(CHECKPOINT_PAGES)
        await outbox.begin(self.rng.randrange(1, 2**62))
        return outbox

    async def _step(self, outbox: MarkedOutbox, intake: Intake) -> None:
        chance = self.rng.random()
        if chance < 0.70:
            for _ in range(self.rng.randint(1, 3)):
                await intake.answer(self._answer())
        elif chance < 0.75:
            every = np.arange(len(POINTS.points), dtype=np.int32)
            await intake.silence(Silence(DEVICE, every, GapReason.DEVICE_DOWN, 1))
        elif chance < 0.95:
            self._tell(outbox)
            await outbox.flush(now=self.rng.random() < 0.7)
        else:
            await self._drop(outbox)

    def _answer(self) -> Answer:
        count = self.rng.randint(1, len(POINTS.points))
        values = list(range(self.counter, self.counter + count))
        self.counter += count
        at = np.full(count, SystemClock().now_us())
        token = values[-1].to_bytes(8, "big")
        columns = Columns.of(
            self.rng.sample(range(len(POINTS.points)), count), at, values, [0] * count
        )
        done = partial(self.recorder.mark, "done", values=values, token=token)
        return Answer(DEVICE, columns, (token,), TOKENS_KEPT, done)

    def _tell(self, outbox: MarkedOutbox) -> None:
        told = []
        for epoch, ranges in outbox.index.pending():
            here = {seq for first, last in ranges for seq in range(first, last + 1)}
            chosen = {seq for seq in here if self.rng.random() < 0.6}
            counts = self._counts(epoch, chosen)
            told.append(self.central.settle(epoch, counts))
            self.recorder.mark("told", epoch=epoch, seqs=sorted(chosen))
        outbox.index.settle(told)

    def _counts(self, epoch: int, seqs: set[int]) -> dict[int, int]:
        """Give the readings of each batch that central had not settled before."""
        new = seqs - self.central.settled.get(epoch, set())
        counts = dict.fromkeys(new, 0)
        for op in self.recorder.ops:
            if op[:2] == ["mark", "batch"] and op[2]["epoch"] == epoch and op[2]["seq"] in new:
                counts[op[2]["seq"]] = op[2]["count"] if op[2]["kind"] != "events" else 0
        return counts

    async def _drop(self, outbox: MarkedOutbox) -> None:
        top = outbox.index.next_id
        oldest = await outbox.fetch(
            0, top, self.rng.randint(1, 6), sort=(Kind.READINGS, PointClass.NORMAL)
        )
        await outbox.drop(oldest, GapReason.OUTBOX_FULL)
        for one in await outbox.fetch(top - 1, outbox.index.next_id, 100):
            outbox.note(one.epoch, one.seq, one.as_draft())


async def damaged_start(workload: Workload) -> None:
    """Write, damage the tail as a worn card does, and start again: the file is mended."""
    await workload.run(generations=1, rounds=30)
    path = workload.folder / recovery.FILE_NAME
    content = path.read_bytes()
    with SegmentFile(path) as file:
        written = file.tail()
    assert written is not None
    at = content.index(written[1][4:200])
    torn = bytes(byte ^ 0xFF for byte in content[at : at + 64])
    handle = os.open(path, os.O_WRONLY)
    os.pwrite(handle, torn, at)
    workload.recorder.ops.append(["write", workload.recorder.number_of(path.name), at, torn])
    os.fsync(handle)
    os.close(handle)
    workload.recorder.mark("damaged")
    await (await workload.opened()).close()
    workload.recorder.mark("mended")


def batches_of(ops: Sequence[list[Any]]) -> Iterator[dict[str, Any]]:
    """Yield the facts of every batch that a trace promises."""
    return (op[2] for op in ops if op[0] == "mark" and op[1] == "batch")


def main() -> None:
    """Record one trace."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("trace", type=Path)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--synchronous", default="FULL")
    parser.add_argument("--damage", action="store_true", help="record a start on a damaged file")
    given = parser.parse_args()
    # The control writes with less care; nothing else differs.
    careless = partial(SegmentFile, synchronous=given.synchronous)
    vars(recovery)["SegmentFile"] = careless if given.synchronous != "FULL" else SegmentFile
    recorder = Recorder(given.folder.resolve())
    workload = Workload(given.folder.resolve(), recorder, random.Random(given.seed))
    if given.damage:
        asyncio.run(damaged_start(workload))
    else:
        asyncio.run(workload.run(generations=3, rounds=given.rounds))
    given.trace.write_bytes(msgpack.packb(recorder.ops, use_bin_type=True))


if __name__ == "__main__":
    main()
