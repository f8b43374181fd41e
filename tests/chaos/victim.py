"""What can be killed in a run, and who notes it: processes of ours and servers alike."""

from dataclasses import dataclass
from typing import Protocol

from tests.chaos.journal import Journal


class Victim(Protocol):
    """A process, or a server of several, that is killed and comes back with its data."""

    @property
    def name(self) -> str:
        """One word, by which its kills are counted."""
        ...

    @property
    def is_running(self) -> bool:
        """Tell whether it lives."""
        ...

    async def start(self) -> None:
        """Start it; a start that has begun is finished even when cancelled."""
        ...

    async def wait_ready(self) -> None:
        """Wait until it works; raises an error of ours if it does not."""
        ...

    async def kill(self) -> None:
        """End it at once (kill -9); returns when it is gone."""
        ...


@dataclass(frozen=True, slots=True)
class Killer:
    """Kills and raises, and notes each in the run's journal."""

    journal: Journal

    async def kill(self, victim: Victim) -> None:
        """Kill one that lives; one that is dead already is not counted."""
        if victim.is_running:
            self.journal.note(f"{victim.name}_killed")
            await victim.kill()

    async def ready(self, victim: Victim) -> None:
        """Wait until it is ready."""
        await victim.wait_ready()
        self.journal.note(f"{victim.name}_ready")

    async def up(self, victim: Victim) -> None:
        """Have it running and ready, whatever the mayhem left of it."""
        if not victim.is_running:
            await victim.start()
        await self.ready(victim)
