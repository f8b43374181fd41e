"""What devices tell the intake: readings, or that there are none."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from edge.holes import GapReason
from shared.columns import Columns
from shared.quality import Reason
from shared.rollups import Rollups, no_rollups

_NO_COLUMNS: Final = Columns.empty()
_NO_ROLLUPS: Final = no_rollups()


@dataclass(frozen=True, slots=True)
class Brought:
    """When something was brought by a clock that may be wrong: its time, and that since the boot.

    Both in microseconds.
    """

    real_us: int
    boot_us: int


@dataclass(frozen=True, slots=True)
class Answer:
    """Readings a device gave; their series is the index in the gateway's point set.

    Those `aggregated` are not committed themselves: rollups, now or later, tell of them.
    """

    device: str
    columns: Columns
    tokens: tuple[bytes, ...] = ()
    tokens_kept: int = 0
    done: Callable[[], None] | None = None
    aggregated: Columns = _NO_COLUMNS
    rollups: Rollups = field(default_factory=lambda: _NO_ROLLUPS)
    brought: Brought | None = None


@dataclass(frozen=True, slots=True)
class Silence:
    """A device did not answer, or was not asked: a hole opens for its points.

    `missed` polls were due and not made. Where `told` is set, each point also gets one bad reading
    that says so, with this reason, at `at_us`; the intake sets that to when the news came.
    """

    device: str
    series: NDArray[np.int32]
    reason: GapReason
    missed: int | None = None
    told: Reason | None = None
    at_us: int = 0
    brought: Brought | None = None


def readings_in(item: Answer | Silence) -> int:
    """Count the readings that an item waits with."""
    if isinstance(item, Answer):
        return len(item.columns) + len(item.aggregated) + len(item.rollups)
    return 0 if item.told is None else len(item.series)
