"""What waits in the outbox file for the clock to be set."""

from collections.abc import Awaitable, Callable
from typing import Any, Final, Protocol

from edge.hold import Held

AT_ONCE: Final = 20_000
"""Readings that were held back and are sealed in one commit."""


class HeldFile(Protocol):
    """What is asked of the file."""

    def hold(self, held: Held) -> None:
        """Commit a row."""
        ...

    def held_back(self, most_readings: int) -> list[Held]:
        """Read the oldest rows."""
        ...

    def held_latest(self) -> dict[str, int]:
        """Tell the latest time that was held in each boot."""
        ...

    def held_count(self) -> tuple[int, int]:
        """Count rows and readings."""
        ...


class HeldRows:
    """The rows that wait, of which the outbox deletes those that a commit seals."""

    def __init__(self, file: HeldFile, call: Callable[[Callable[[], Any]], Awaitable[Any]]) -> None:
        """Ask `file` by way of `call`, which takes turns and does not block the loop."""
        self.rows, self.readings = file.held_count()
        self._file = file
        self._call = call

    async def add(self, held: Held) -> None:
        """Commit what waits. Raises `OutboxFull` with nothing changed."""
        await self._call(lambda: self._file.hold(held))
        self.count((self.rows + 1, self.readings + held.readings))

    async def oldest(self) -> tuple[list[Held], dict[str, int]]:
        """Read what waits longest, as much as fits one commit.

        Also tells the latest time that was held in each boot, by the clock of that boot.
        """
        found: tuple[list[Held], dict[str, int]] = await self._call(
            lambda: (self._file.held_back(AT_ONCE), self._file.held_latest())
        )
        return found

    def count(self, found: tuple[int, int]) -> None:
        """Take note of how many rows and readings wait."""
        self.rows, self.readings = found
