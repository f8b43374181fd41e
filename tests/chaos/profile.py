"""What a run is made of behind the link, in each profile: one object that the mayhem works with."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

from central.messaging import Log
from central.storage.database import Pool
from tests.chaos.mayhem import Mayhem
from tests.chaos.pace import Pace
from tests.chaos.service import Service
from tests.chaos.timetable import Thresholds
from tests.chaos.victim import Victim

PROJECT: Final = "demo"


@dataclass(frozen=True, slots=True)
class Central:
    """Central of one run: its servers run, its modules are to be started."""

    modules: Sequence[Service]
    """In the order of their start; they are stopped in the opposite one."""
    writers: Sequence[Service]
    """Those of the modules that write into the database."""
    servers: Sequence[Victim]
    log_servers: Sequence[Victim]
    """Those of the servers that keep the log; they are down while it is wiped."""
    pool: Pool
    """Connections to the database as central's service role, past all doors."""
    log: Log
    wipe: Callable[[], Awaitable[None]]
    """Throws the log's data away, with the writers and the log's servers down."""
    leader: Callable[[], Awaitable[Victim]]
    """Tells which of the log's servers takes in readings now; there must be one."""
    link_port: int
    enrol_port: int
    env: Mapping[str, str] | None = None
    """The environment of central's commands."""
    rival: Service | None = None
    """Writes the same topics without a lease."""
    ready_urls: Mapping[str, str] = field(default_factory=dict)
    """Where modules tell whether they are ready, by name: for those that must never stop long."""
    metrics_url: str = ""
    """Where ingress counts what it put into the log."""


class Profile(Protocol):
    """How central is run, broken and read in one profile."""

    @property
    def name(self) -> str:
        """`local`, `dev` or `staging`."""
        ...

    @property
    def pace(self) -> Pace:
        """How fast the building is played and read."""
        ...

    def thresholds(self, kills: int | None = None) -> Thresholds:
        """Say how large a run must be; `kills` of each victim, None for the profile's own."""
        ...

    def mayhem(self, lasts_s: float) -> Mayhem:
        """Say what goes wrong how often."""
        ...

    def running(self, folder: Path) -> AbstractAsyncContextManager[Central]:
        """Start the servers; at the end everything that still runs is ended."""
        ...

    def database(self, folder: Path) -> AbstractAsyncContextManager[str]:
        """Give the service role's DSN of a run that is over, with the database up meanwhile."""
        ...
