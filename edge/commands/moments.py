"""Moments that a jumping clock cannot move: wall time beside the time since the boot."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from edge.clockstate import boot_id, is_synchronised
from shared.clock import MICROSECONDS, Clock

ANOTHER_BOOT: Final = ""


@dataclass(frozen=True, slots=True)
class Moment:
    """When something was: by the wall, and in seconds of one boot of the machine."""

    utc_us: int
    boot: str
    boot_s: float

    def since_s(self, earlier: "Moment") -> float | None:
        """Tell how much time went by since a moment of the same boot; None for another boot."""
        if self.boot == ANOTHER_BOOT or self.boot != earlier.boot:
            return None
        return self.boot_s - earlier.boot_s

    def until_s(self, utc_us: int) -> float:
        """Tell how far away a time is by the wall; negative for the past."""
        return (utc_us - self.utc_us) / MICROSECONDS


@dataclass(frozen=True, slots=True)
class Times:
    """Tells moments, and whether the wall can be believed."""

    clock: Clock
    is_synchronised: Callable[[], bool] = is_synchronised
    boot: str = field(default_factory=boot_id)

    def now(self) -> Moment:
        """Tell what time it is."""
        return Moment(self.clock.now_us(), self.boot, self.clock.monotonic_s())
