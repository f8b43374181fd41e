"""The measured building: the columns of `data/rooms.csv.gz`, played in a circle of whole days."""

import csv
import gzip
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Final, Self

STEP_US: Final = 600_000_000
STEPS_A_DAY: Final = 144
_FILE: Final = Path(__file__).parent / "data" / "rooms.csv.gz"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a replayed moment lies in a recording: row, the part of its step, rounds before."""

    row: int
    part: float
    rounds: int


@dataclass(frozen=True, slots=True)
class Recording:
    """Columns of equal steps of 10 minutes; row 0 is a midnight, and their number whole days.

    `first_row` is the row that is played at replayed time 0; a seed chooses it, in whole days, so
    that the time of day stays.
    """

    columns: Mapping[str, Sequence[float]]
    first_row: int
    rows: int

    @classmethod
    def load(cls, seed: int) -> Self:
        """Read the extract that ships with the package."""
        with gzip.open(_FILE, "rt", encoding="utf-8", newline="") as file:
            names, *lines = csv.reader(file)
        columns = zip(*(map(float, line) for line in lines), strict=True)
        days = len(lines) // STEPS_A_DAY
        # S311: the seed makes a building repeatable; nothing secret.
        first_row = random.Random(f"{seed}/day").randrange(days) * STEPS_A_DAY  # noqa: S311 - seeded
        return cls(dict(zip(names, columns, strict=True)), first_row, len(lines))

    def place(self, replayed_us: int) -> Place:
        """Find a replayed moment."""
        step, rest = divmod(replayed_us, STEP_US)
        rounds, row = divmod(step + self.first_row, self.rows)
        return Place(row, rest / STEP_US, rounds)

    def at(self, column: str, replayed_us: int) -> float:
        """Tell a column's value, straight between the recorded ones."""
        place = self.place(replayed_us)
        values = self.columns[column]
        before, after = values[place.row], values[(place.row + 1) % self.rows]
        return before + (after - before) * place.part

    def day(self, replayed_us: int) -> int:
        """Tell which day of the recording is played, from 0."""
        return self.place(replayed_us).row // STEPS_A_DAY


@dataclass(frozen=True, slots=True)
class Total:
    """The running total of a quantity that is recorded per step, such as energy."""

    steps: Sequence[float]
    sums: Sequence[float]

    @classmethod
    def of(cls, steps: Sequence[float]) -> Self:
        """Sum up the steps once."""
        return cls(steps, tuple(accumulate(steps, initial=0.0)))

    def at(self, place: Place, part: float) -> float:
        """Tell the total at a place of which `part` of the step's own amount has passed."""
        return place.rounds * self.sums[-1] + self.sums[place.row] + self.steps[place.row] * part
