"""What was read, what arrived, and what one says of the other."""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from bench.rig.layout import INTERVAL_S, Layout

Name = tuple[int, int, int]
"""A reading: its unit, its point, and its value, the milliseconds at which it was read."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """A reading at the sink, and the milliseconds at which it came, on the clock of the values."""

    name: Name
    at_ms: float


@dataclass(frozen=True, slots=True)
class Gap:
    """Readings that a product itself declares as lost: points by unit, between two times."""

    points: frozenset[tuple[int, int]]
    from_ms: float
    to_ms: float

    def tells_of(self, name: Name) -> bool:
        """Tell whether a reading that did not arrive is among them."""
        return name[:2] in self.points and self.from_ms <= name[2] <= self.to_ms


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of the readings of a time; `missed` were due and not even asked for."""

    due: int
    read: int
    lost: int
    declared: int
    """Of those lost, how many the product itself declares."""
    doubled: int
    ages_ms: Sequence[float]

    @property
    def missed(self) -> int:
        """Count polls that were due and not made; the first and last may fall beyond the edges."""
        return max(0, self.due - self.read)

    def to_json(self) -> dict[str, object]:
        """List the figures."""
        ages = sorted(self.ages_ms)
        told: dict[str, object] = {
            "due": self.due,
            "missed": self.missed,
            "lost": self.lost,
            "declared": self.declared,
            "doubled": self.doubled,
        }
        if ages:
            told["age_ms"] = round(median(ages))
            told["age_p99_ms"] = round(ages[math.ceil(0.99 * (len(ages) - 1))])
        return told


def served(log: Path, layout: Layout) -> Iterator[Name]:
    """List the readings that units answered with."""
    for line in log.read_text("ascii").splitlines():
        at_ms, unit, start, count = map(int, line.split())
        for point in layout.read_by(start, count):
            yield unit, point, at_ms


def judge(
    layout: Layout,
    between: tuple[float, float],
    read: Iterable[Name],
    arrivals: Sequence[Arrival],
    gaps: Sequence[Gap] = (),
    units: Sequence[int] | None = None,
) -> Verdict:
    """Compare, for what was read between two times, in milliseconds, of some units or all."""
    begin, end = between
    wanted = frozenset(units if units is not None else layout.units)

    def counts(name: Name) -> bool:
        return begin <= name[2] < end and name[0] in wanted

    here = set(filter(counts, read))
    came = Counter(one.name for one in arrivals if counts(one.name))
    lost = here - came.keys()
    return Verdict(
        due=round(layout.points * len(wanted) * (end - begin) / 1_000 / INTERVAL_S),
        read=len(here),
        lost=len(lost),
        declared=sum(any(gap.tells_of(name) for gap in gaps) for name in lost),
        doubled=sum(count - 1 for count in came.values()),
        ages_ms=[one.at_ms - one.name[2] for one in arrivals if counts(one.name)],
    )
