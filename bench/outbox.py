"""Stage `outbox`: sealed batches committed to the outbox, against bare INSERTs of those bytes.

Both sides commit one batch of about 1,000 readings at a time to a SQLite file of their own, WAL and
`synchronous=FULL`, and both begin with the sealed bytes; ours does it in a thread, with index and
tail. What it costs to seal them first is told beside it: the stage `wire` has its figures.
"""

import asyncio
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Final

import apsw
import numpy as np
import uvloop

from bench.inputs import Input, inputs
from bench.stage import Round, StageResult, typical
from edge.answers import Answer
from edge.intake import Intake, Sealing, seal
from edge.outbox import Outbox
from edge.recovery import open_outbox
from edge.sealed import Draft
from edge.settings import OutboxSection
from shared.batch import decode
from shared.clock import SystemClock
from shared.columns import Columns
from shared.model import Point, PointSet

OUT: Final = Path(__file__).parent / "out"
"""The files lie here and not in a folder for temporary files, which may be in memory."""

PRAGMAS: Final = ("locking_mode=EXCLUSIVE", "journal_mode=WAL", "synchronous=FULL")
_IO: Final = Path("/proc/self/io")
_SETTINGS: Final = OutboxSection(commit_readings=1)


@dataclass(frozen=True, slots=True)
class Compared:
    """All sides on one input: what each took, and the bytes given to the disk for a reading."""

    name: str
    sealed_bytes: float
    ours: Round
    bare: Round
    alone: Round
    whole: Round
    ours_written: float | None
    bare_written: float | None

    @property
    def ratio(self) -> float:
        """Ours / baseline, in readings a second; both begin with the same sealed bytes."""
        return self.alone.rate / self.bare.rate

    @property
    def with_sealing_ratio(self) -> float:
        """The same where ours has to seal the readings first."""
        return self.ours.rate / self.bare.rate


def run(rounds: int, quick: bool) -> StageResult:
    """Compare on the three inputs of the wire stage; all figures are medians of the three."""
    OUT.mkdir(exist_ok=True)
    compared = [_compare(one, rounds) for one in inputs(batches=10 if quick else 150)]
    middle = sorted(compared, key=lambda one: one.ratio)[len(compared) // 2]
    return StageResult(
        stage="outbox",
        metric="rate",
        ratio=middle.ratio,
        better="higher",
        rate=median(one.alone.rate for one in compared),
        baseline_rate=median(one.bare.rate for one in compared),
        cpu_us_per_1000=median(one.alone.cpu_us_per_1000 for one in compared),
        bytes_per_reading=median(one.ours_written or one.sealed_bytes for one in compared),
        rounds=rounds,
        ours={
            "path": "edge.outbox.Outbox.commit: thread, index and tail with it",
            "pragmas": list(PRAGMAS),
            "readings_per_commit": "about 1,000",
            "with_sealing_ratio": _short(median(one.with_sealing_ratio for one in compared)),
            "inputs": {one.name: _figures(one) for one in compared},
        },
        baseline={
            "path": "apsw on the main thread, one INSERT of the sealed bytes a commit",
            "pragmas": list(PRAGMAS),
            "cpu_us_per_1000": _short(median(one.bare.cpu_us_per_1000 for one in compared)),
        },
    )


def _compare(given: Input, rounds: int) -> Compared:
    with (
        tempfile.TemporaryDirectory(dir=OUT, prefix="outbox-") as name,
        _opened(Path(name), given) as ours,
        _bare(Path(name) / "bare.db") as bare,
    ):
        drafts = [ours.sealed(batch) for batch in given.batches]
        bodies = [draft.body for draft in drafts]

        def insert() -> None:
            for body in bodies:
                bare.execute("INSERT INTO bodies (body) VALUES (?)", (body,))

        sides = (ours.seal_and_commit, insert, lambda: ours.commit(drafts), ours.bring)
        # In turns, as `interleave` does it for two.
        turns = [[_measured(side, given.readings) for side in sides] for _ in range(rounds)]
        taken, plain, alone, whole = zip(*turns, strict=True)
        ours.check(3 * rounds)
        held = bare.execute("SELECT count(*) FROM bodies").fetchone()
        assert held == (rounds * len(bodies),), "the baseline lost a batch"
    return Compared(
        name=given.name,
        sealed_bytes=sum(map(len, bodies)) / given.readings,
        ours=typical([one.round for one in taken]),
        bare=typical([one.round for one in plain]),
        alone=typical([one.round for one in alone]),
        whole=typical([one.round for one in whole]),
        ours_written=_typical_bytes(taken),
        bare_written=_typical_bytes(plain),
    )


@dataclass(slots=True)
class Ours:
    """The intake and outbox of a gateway, in a loop as the gateway's."""

    batches: Sequence[Columns]
    runner: asyncio.Runner
    outbox: Outbox
    intake: Intake
    brought: int = field(default=0)

    def sealed(self, batch: Columns) -> Draft:
        """Seal a batch as the intake does."""
        (draft,) = seal(Sealing(self.outbox.tail, self.intake.ranks, [batch]))
        return draft

    def commit(self, drafts: Sequence[Draft]) -> None:
        """Commit sealed batches, each by itself."""

        async def one_by_one() -> None:
            for draft in drafts:
                await self.outbox.commit([draft], self.outbox.tail, None)

        self.runner.run(one_by_one())

    def seal_and_commit(self) -> None:
        """Seal and commit every batch by itself."""

        async def one_by_one() -> None:
            for batch in self.batches:
                await self.outbox.commit([self.sealed(batch)], self.outbox.tail, None)

        self.runner.run(one_by_one())

    def bring(self) -> None:
        """Bring every batch to the intake and wait until it is safe: the whole way."""
        self.runner.run(self._bring())

    async def _bring(self) -> None:
        first, last = self.batches[0].observed_at.min(), self.batches[-1].observed_at.max()
        later = self.brought * (last - first + 1_000_000)
        committing = asyncio.create_task(self.intake.run())
        for batch in self.batches:
            shifted = Columns(batch.series, batch.observed_at + later, batch.value, batch.quality)
            await self.intake.answer(Answer("device", shifted))
            await self.intake.flushed()
        committing.cancel()
        await asyncio.wait([committing])
        self.brought += 1

    def check(self, times: int) -> None:
        """What is measured must be there: every batch, and the last ones value by value."""
        ledger = self.outbox.index.ledger()
        assert ledger.pending == times * sum(map(len, self.batches)), "the outbox lost readings"
        top = self.outbox.index.next_id
        held = self.runner.run(self.outbox.fetch(top - 1 - len(self.batches), top, 10_000))
        for one, batch in zip(held, self.batches, strict=True):
            ordered = batch.take(np.lexsort((batch.observed_at, batch.series)))
            assert decode(one.body).value.tobytes() == ordered.value.tobytes(), "other values"


@contextmanager
def _opened(folder: Path, given: Input) -> Iterator[Ours]:
    points = PointSet(tuple(Point(key) for key in given.keys))
    clock = SystemClock()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        outbox, _ = runner.run(open_outbox(folder, points, clock, _SETTINGS))
        runner.run(outbox.begin(1))
        yield Ours(given.batches, runner, outbox, Intake(outbox, _SETTINGS, clock))
        runner.run(outbox.close())


@contextmanager
def _bare(path: Path) -> Iterator[apsw.Connection]:
    bare = apsw.Connection(str(path))
    try:
        for pragma in PRAGMAS:
            bare.execute(f"PRAGMA {pragma}").fetchall()
        bare.execute("CREATE TABLE bodies (id INTEGER PRIMARY KEY, body BLOB NOT NULL) STRICT")
        yield bare
    finally:
        bare.close()


@dataclass(frozen=True, slots=True)
class _Written:
    """A round, and the bytes the process gave to the disk in it; None where nobody counts them."""

    round: Round
    bytes_per_reading: float | None


def _measured(work: Callable[[], None], readings: int) -> _Written:
    before = _bytes_written()
    taken = Round.of(work, readings)
    after = _bytes_written()
    if before is None or after is None:
        return _Written(taken, None)
    return _Written(taken, (after - before) / readings)


def _bytes_written() -> int | None:
    try:
        fields = dict(line.split(": ") for line in _IO.read_text("ascii").splitlines())
    except OSError:
        return None
    return int(fields["write_bytes"])


def _typical_bytes(side: Sequence[_Written]) -> float | None:
    counted = [one.bytes_per_reading for one in side if one.bytes_per_reading is not None]
    return median(counted) if counted else None


def _figures(one: Compared) -> dict[str, object]:
    return {
        "ratio": _short(one.ratio),
        "rate": _short(one.alone.rate),
        "baseline_rate": _short(one.bare.rate),
        "with_sealing_rate": _short(one.ours.rate),
        "with_sealing_ratio": _short(one.with_sealing_ratio),
        "whole_intake_rate": _short(one.whole.rate),
        "whole_intake_cpu_us_per_1000": _short(one.whole.cpu_us_per_1000),
        "sealed_bytes_per_reading": _short(one.sealed_bytes),
        "written_bytes_per_reading": _maybe(one.ours_written),
        "baseline_written_bytes_per_reading": _maybe(one.bare_written),
    }


def _maybe(figure: float | None) -> float | None:
    return None if figure is None else _short(figure)


def _short(figure: float) -> float:
    return float(f"{figure:.4g}")
