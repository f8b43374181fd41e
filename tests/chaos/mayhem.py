"""How often what goes wrong in a run; `tests.chaos.chaos` does it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

Pair = tuple[float, float]
"""The shortest and the longest of something, in seconds."""

IN_START_SHARE: Final = 0.15
"""So many kills hit a process that has not become ready yet."""


@dataclass(frozen=True, slots=True)
class Lives:
    """How long a victim lives from its readiness to the next kill, in seconds."""

    shortest_s: float
    longest_s: float
    in_start_share: float = IN_START_SHARE


@dataclass(frozen=True, slots=True)
class Fights:
    """How long a writer without a lease stays away, and then how long it writes, in seconds."""

    away_s: Pair
    lasts_s: Pair


@dataclass(frozen=True, slots=True)
class Mayhem:
    """What goes wrong for so many seconds at most; None: does not."""

    lasts_s: float
    lives: Mapping[str, Lives] = field(default_factory=dict)
    """Victims by name that are killed on their own; all others are killed in turn."""
    turn_s: Pair | None = None
    """The pause from one victim's return to the next one's kill."""
    rounds: int | None = None
    """After so many rounds of turns, and the wipe or loss if there is one, it is over; None: when
    the time is."""
    line_holds_s: Pair = (4.0, 12.0)
    cut_s: Pair = (1.0, 5.0)
    wipe_after_s: float | None = None
    lose_after_s: float | None = None
    """When one of the log's servers is lost for good."""
    fights: Fights | None = None
