"""What a simulated device measures: its points, and their values at a replayed moment."""

from collections.abc import Mapping
from typing import Protocol

from shared.model import Point


class Source(Protocol):
    """The values of one device, as a pure function of replayed time."""

    @property
    def name(self) -> str:
        """The device's name, which begins the keys of its points."""
        ...

    @property
    def points(self) -> tuple[Point, ...]:
        """The points, without the sample counter."""
        ...

    def values(self, replayed_us: int) -> Mapping[str, float]:
        """Tell the value of every point by its key."""
        ...


def counter_of(device: str) -> Point:
    """Name the sample counter that every device serves."""
    return Point(f"{device}/counter")
