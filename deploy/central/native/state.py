"""What a stack remembers between two commands: its profile, its ports and what it has running."""

import fcntl
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from deploy.central.native.processes import Process
from deploy.central.native.service import StackFailed
from shared.pki import write_private


@dataclass(frozen=True, slots=True)
class Noted:
    """A process that was started, and when."""

    process: Process
    since: datetime


@dataclass(slots=True)
class State:
    """The content of the state file."""

    profile: str | None = None
    ports: dict[str, dict[str, int]] = field(default_factory=dict)
    running: dict[str, Noted] = field(default_factory=dict)

    def alive(self, name: str) -> Process | None:
        """Give the process of that name if it still runs."""
        noted = self.running.get(name)
        return noted.process if noted is not None and noted.process.is_alive() else None


@dataclass(frozen=True, slots=True)
class StateFile:
    """`state.json` in a stack's folder; read and written as a whole, by one at a time."""

    folder: Path

    def exists(self) -> bool:
        """Tell whether this folder is a stack's."""
        return self._path.exists()

    def read(self) -> State:
        """Give what is remembered; nothing where the file is not there."""
        try:
            return _state_of(json.loads(self._path.read_text()))
        except FileNotFoundError:
            return State()
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise StackFailed(
                f"{self._path} is damaged ({error}): remove {self.folder} to begin anew"
            ) from error

    @contextmanager
    def changing(self) -> Iterator[State]:
        """Give what is remembered to be changed, and write it back; keep it short."""
        with self.locked("state"):
            state = self.read()
            yield state
            write_private(self._path, _text_of(state).encode())

    @contextmanager
    def locked(self, what: str) -> Iterator[None]:
        """Hold a lock of this stack, against other processes and threads."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with (self.folder / f".{what}.lock").open("w") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            yield

    @property
    def _path(self) -> Path:
        return self.folder / "state.json"


def _state_of(data: dict[str, Any]) -> State:
    running = {
        name: Noted(Process(**noted["process"]), datetime.fromisoformat(noted["since"]))
        for name, noted in data["running"].items()
    }
    return State(data["profile"], data["ports"], running)


def _text_of(state: State) -> str:
    running = {
        name: {"process": asdict(noted.process), "since": noted.since.isoformat()}
        for name, noted in state.running.items()
    }
    whole = {"profile": state.profile, "ports": state.ports, "running": running}
    return json.dumps(whole, indent=1)


def noted_now(process: Process) -> Noted:
    """Note a process that has just been started."""
    return Noted(process, datetime.now(UTC))
