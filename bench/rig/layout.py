"""What is read on the rig: so many units with so many points each, every second."""

from dataclasses import dataclass
from typing import Final

INTERVAL_S: Final = 1
UNITS: Final = 10


@dataclass(frozen=True, slots=True)
class Layout:
    """Points 0 … n-1 of units 1 … `UNITS`; point i is the unsigned 32 bits at register 2 i."""

    points: int
    """Of each unit."""

    @property
    def units(self) -> range:
        """List the units."""
        return range(1, UNITS + 1)

    @property
    def rate(self) -> int:
        """Tell the readings a second."""
        return UNITS * self.points // INTERVAL_S

    def read_by(self, start: int, count: int) -> range:
        """Tell which points a read of so many registers holds whole."""
        return range((start + 1) // 2, min(self.points, (start + count) // 2))
