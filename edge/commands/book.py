"""The book: in memory, what is open by what was committed. It decides nothing and writes nothing.

Slots hold only values that were read back; whoever outranks whom is decided by priority alone, and
people on site have the higher ones.
"""

from dataclasses import dataclass, field

from edge.commands.command import Command, Slot
from edge.commands.moments import Moment

Place = tuple[str, int]
"""A point and a priority."""


@dataclass(slots=True)
class Book:
    """What is open: commands that wait, points that are held, and what must be given back."""

    waiting: dict[bytes, Command] = field(default_factory=dict)
    """In the order of acceptance."""
    slots: dict[Place, Slot] = field(default_factory=dict)
    owed: dict[Place, int] = field(default_factory=dict)
    """What may be written to a point and is not its due: with how often it was tried to mend it."""
    written: dict[str, Moment] = field(default_factory=dict)
    """When a point was last written by a command."""

    def slots_of(self, point: str) -> list[Slot]:
        """List who holds a point, the highest priority first."""
        found = (slot for place, slot in self.slots.items() if place[0] == point)
        return sorted(found, key=lambda slot: slot.priority)

    def top(self, point: str, without: int = 0) -> Slot | None:
        """Tell whose value a point has, if anybody's; `without` leaves one priority out."""
        return next((one for one in self.slots_of(point) if one.priority != without), None)

    def outranking(self, point: str, priority: int) -> Slot | None:
        """Tell who holds a point at a higher priority, if anybody does."""
        top = self.top(point)
        return top if top is not None and top.priority < priority else None
