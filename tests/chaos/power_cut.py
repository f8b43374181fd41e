"""Cuts the power of an outbox many times and looks whether anything that was promised is lost.

`python tests/chaos/power_cut.py --cuts 1000 --seed 7`; ends with `lost 0` and 0, or with 1. A
process that runs the real intake and outbox is recorded a few times (power_cut_workload); then the
disk is rebuilt as it may be after a cut at any moment (power_cut_disk), opened by the gateway's own
recovery and judged (power_cut_oracle). `--synchronous NORMAL` is the control that loses readings.
"""

import argparse
import asyncio
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgpack

ROOT: Final = Path(__file__).parents[2]
if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))

from shared import logs  # noqa: E402 - as a script, see above
from tests.chaos.power_cut_disk import Disk, Op, write_out  # noqa: E402
from tests.chaos.power_cut_oracle import Promised, Verdict, judge  # noqa: E402

Image = tuple[int, dict[str, bytes], Promised]
"""A moment of a trace, what is on the disk after a cut then, and what had been promised."""

CUTS_A_TRACE: Final = 200
RECORDING_S: Final = 60.0
MEMORY: Final = "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108 - only a root
"""Where the disks that are made up lie: what the real one does is of no matter."""


@dataclass(slots=True)
class Tally:
    """What all cuts together showed."""

    cuts: int = 0
    operations: int = 0
    losing: int = 0
    lost_batches: int = 0
    lost_readings: int = 0
    wrong: list[str] = field(default_factory=list)

    def add(self, verdict: Verdict, where: str) -> None:
        """Take in the verdict of one cut."""
        self.cuts += 1
        self.losing += bool(verdict.lost_batches)
        self.lost_batches += verdict.lost_batches
        self.lost_readings += verdict.lost_readings
        self.wrong += [f"{where}: {text}" for text in verdict.wrong]

    def line(self) -> str:
        """Write the result as one line."""
        return (
            f"cuts {self.cuts} operations {self.operations} losing {self.losing} "
            f"wrong {len(self.wrong)} batches lost {self.lost_batches} lost {self.lost_readings}"
        )


def record(folder: Path, seed: int, synchronous: str, *, damage: bool) -> list[Op]:
    """Run the workload in a process of its own and give its trace."""
    disk, trace = folder / "disk", folder / "trace"
    disk.mkdir()
    command = [sys.executable, "-m", "tests.chaos.power_cut_workload", str(disk), str(trace)]
    command += ["--seed", str(seed), "--synchronous", synchronous]
    subprocess.run(
        [*command, *(["--damage"] if damage else [])],
        cwd=ROOT,
        check=True,
        timeout=RECORDING_S,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    ops: list[Op] = msgpack.unpackb(trace.read_bytes(), raw=False)
    return ops


def images(ops: list[Op], cuts: int, rng: random.Random, *, after: str = "") -> Iterator[Image]:
    """Yield what is on the disk, and what was promised, after cuts at random moments.

    `after` is the mark before which no cut is made.
    """
    marks = [at for at, op in enumerate(ops) if op[:2] == ["mark", after]]
    first = marks[0] + 1 if marks else 0
    moments = sorted(rng.randint(first, len(ops)) for _ in range(cuts))
    disk, promised, at = Disk(), Promised(), 0
    for moment in moments:
        for op in ops[at:moment]:
            disk.apply(op)
            promised.take(op)
        at = moment
        yield moment, disk.after_cut(rng), promised


def cut_power(cuts: int, seed: int, synchronous: str = "FULL") -> Tally:
    """Record as many traces as it takes and cut each at random moments."""
    tally = Tally()
    for number in range(1, -(-cuts // CUTS_A_TRACE) + 1):
        # Every fourth trace is that of a start on a damaged file, which is mended.
        damage = number % 4 == 0
        with tempfile.TemporaryDirectory(prefix="spine-power-cut-", dir=MEMORY) as name:
            ops = record(Path(name), seed * 1_000 + number, synchronous, damage=damage)
            tally.operations += sum(op[0] != "mark" for op in ops)
            rng = random.Random(seed * 1_000 + number)
            here = min(CUTS_A_TRACE, cuts - tally.cuts)
            after = "damaged" if damage else ""
            cut = images(ops, here, rng, after=after)
            asyncio.run(_judge_all(tally, Path(name) / "after", cut, f"seed {seed} trace {number}"))
    return tally


async def _judge_all(tally: Tally, folder: Path, cut: Iterator[Image], where: str) -> None:
    for moment, files, promised in cut:
        write_out(folder, files)
        tally.add(await judge(folder, promised), f"{where} cut at {moment}")


def main() -> int:
    """Cut as often as the command line says, and tell."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cuts", type=int, default=1_000)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--synchronous", choices=("FULL", "NORMAL"), default="FULL")
    given = parser.parse_args()
    logs.configure("critical")
    tally = cut_power(given.cuts, given.seed, given.synchronous)
    for text in tally.wrong[:20]:
        print(text)  # noqa: T201 - the answer of a command
    print(tally.line())  # noqa: T201 - the answer of a command
    return 1 if tally.losing or tally.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
