"""What the launcher asks of a service, and what it gives one: a service is one file, one object."""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from signal import Signals
from typing import Final, Literal, Protocol

from deploy.central.native.cache import Cache
from shared.errors import SpineError
from shared.pki import write_private

HOST: Final = "127.0.0.1"
"""All servers listen here and nowhere else."""
Profile = Literal["dev", "staging"]


class StackFailed(SpineError):
    """The stack cannot do what it was asked; the text says where, and what to do."""


@dataclass(frozen=True, slots=True)
class Stack:
    """One stack of servers: its folder, and the ports and secrets it keeps from start to start.

    `ports` has those of every instance by name: `ports["kafka2"]["broker"]`.
    """

    folder: Path
    profile: Profile
    cache: Cache
    ports: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

    def secret(self, name: str) -> str:
        """Give a password by its name: made at the first question, the same ever after."""
        path = self.folder / "secrets" / name
        if not path.exists():
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_private(path, secrets.token_urlsafe(24).encode())
        return path.read_text()


@dataclass(frozen=True, slots=True)
class Instance:
    """One server of a service in a stack.

    `folder` is its own: the launcher makes it, writes the server's output to `log` in it, and on
    `wipe` removes `data` as a whole. Configuration goes beside them.
    """

    name: str
    stack: Stack

    @property
    def folder(self) -> Path:
        """Where everything of this server is."""
        return self.stack.folder / self.name

    @property
    def data(self) -> Path:
        """What the server must find again after a restart; not there at its first start."""
        return self.folder / "data"

    @property
    def log(self) -> Path:
        """What the server writes to its standard output and error."""
        return self.folder / "log"

    @property
    def ports(self) -> Mapping[str, int]:
        """The free ports chosen for this server: those that its service names."""
        return self.stack.ports[self.name]


class Service(Protocol):
    """A kind of server that the launcher can install and run.

    The launcher calls `install`, then for each instance in this order: `prepare`, `command` (which
    it starts in a session of its own, in the instance's folder, with umask 077 and little
    environment), `is_ready` until true, `settle`. All block. A service's own instances are
    prepared and settled one after another, services beside each other in threads. What is raised
    must be a `StackFailed` or an `OSError`. The properties are plain class attributes in practice.
    """

    @property
    def name(self) -> str:
        """One word; also the instance's name where there is one alone."""
        ...

    @property
    def version(self) -> str:
        """What is installed."""
        ...

    @property
    def ports(self) -> Sequence[str]:
        """Names of the ports each instance needs; the first is the one to show."""
        ...

    @property
    def stop_signal(self) -> Signals:
        """What asks the server to end in good order."""
        ...

    @property
    def start_s(self) -> float:
        """How long a start may take until `is_ready`, on a slow and busy machine."""
        ...

    def instances(self, profile: Profile) -> Sequence[str]:
        """Name the servers of this service that a profile runs."""
        ...

    def missing(self, cache: Cache) -> list[str]:
        """List what this machine lacks, each with how to get it; empty means it can run.

        What only an installation needs is not missing where the cache holds the software.
        """
        ...

    def install(self, cache: Cache) -> None:
        """Put the software into the cache; returns at once when it is there."""
        ...

    def prepare(self, instance: Instance) -> None:
        """Write the configuration, and new data where there is none; before every start."""
        ...

    def command(self, instance: Instance) -> Sequence[str]:
        """Give the program and its arguments; it must stay in the foreground."""
        ...

    def is_ready(self, instance: Instance) -> bool:
        """Ask the server whether it serves; asked often, so answer within about a second.

        `OSError` counts as no.
        """
        ...

    def settle(self, instance: Instance) -> None:
        """Do what needs the running server, such as roles; after every start, so repeatable.

        Where it raises `StackFailed` it is called again until `start_s` is over.
        """
        ...

    def env(self, stack: Stack) -> Mapping[str, str]:
        """Tell clients where the service is and how they get in, as lines of the env file."""
        ...
