"""A process that ends by itself is started again: at once, and then with growing waits."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

from shared.backoff import Backoff

STEADY_S: Final = 30.0
"""Who lives this long is well again, and its next end is news."""


class Charges(Protocol):
    """What a supervisor looks after, by name."""

    def end_of(self, name: str) -> str | None:
        """Tell in words how it ended by itself; None while it runs, or is meant not to."""
        ...

    def start_again(self, name: str) -> None:
        """Start it; one that could not be started has still ended."""
        ...

    def log(self, name: str) -> Path:
        """Tell where it writes."""
        ...


@dataclass(slots=True)
class _Watched:
    backoff: Backoff = field(default_factory=lambda: Backoff(base_s=0.5, cap_s=30.0))
    started_s: float | None = None
    due_s: float | None = None


class Supervisor:
    """Looks after those it is told; `say` gets a line at an end, and one at recovery.

    One that ends again and again is told once, until it has run steadily for 30 s.
    """

    def __init__(
        self,
        charges: Charges,
        names: Sequence[str],
        say: Callable[[str], None],
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._charges = charges
        self._watched = {name: _Watched() for name in names}
        self._say = say
        self._monotonic_s = monotonic_s

    def look(self) -> None:
        """Note who has ended, and start whose wait is over; to be called about once a second."""
        now_s = self._monotonic_s()
        for name, watched in self._watched.items():
            end = self._charges.end_of(name)
            if end is None:
                self._note_running(name, watched, now_s)
            elif watched.due_s is None:
                self._note_ended(name, watched, end, now_s)
            elif watched.due_s <= now_s:
                self._charges.start_again(name)
                watched.started_s, watched.due_s = now_s, None

    def _note_running(self, name: str, watched: _Watched, now_s: float) -> None:
        started_s = watched.started_s
        if started_s is not None and now_s - started_s >= STEADY_S:
            self._say(f"{name} runs steadily again")
            watched.started_s = None
            watched.backoff.reset()

    def _note_ended(self, name: str, watched: _Watched, end: str, now_s: float) -> None:
        if watched.backoff.failures == 0:
            log = self._charges.log(name)
            self._say(f"{name} ended by itself {end}; it is started again. See {log}")
        first = watched.backoff.failures == 0
        wait_s = watched.backoff.next_s()
        watched.due_s = now_s if first else now_s + wait_s
