"""The modules of central as processes: their ports, their commands, and whether they are ready."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Final
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

from deploy.central.native.ports import is_free
from deploy.central.processes import Command, Processes, RunFailed

PORTS: Final = 8
"""Ports in a row that six processes need: page, link, enrolment, health of four, egress."""
STOP_ORDER: Final = (
    "ingress",
    "application",
    "egress",
    "analytics",
    "messaging",
    "storage",
    "central",
)
"""What takes in is stopped first, what writes last."""
_HEALTH: Final = {"ingress": 3, "messaging": 4, "storage": 5, "analytics": 6}
_OWNER: Final = "SPINE_OWNER_DSN"


@dataclass(frozen=True, slots=True)
class Module:
    """A process of central: how it is started, and where it answers."""

    name: str
    command: Command
    url: str
    serves: str

    def problem(self) -> str | None:
        """Tell why it is not ready; None when it is."""
        try:
            with urlopen(f"{self.url}/readyz", timeout=5):  # noqa: S310 - loopback
                return None
        except HTTPError as error:
            with error:
                return _read_problem(error.read(65_536))
        except (URLError, HTTPException, OSError) as error:
            return f"no answer at {self.url}: {error}"


def refuse_busy(profile: str, port: int) -> None:
    """Raise `RunFailed` for a port that another program has, before anything is started."""
    count = 3 if profile == "local" else PORTS
    for number in range(port, port + count):
        if not is_free(number):
            raise RunFailed(
                f"port {number} is in use by another program. Stop that program, or choose the "
                f"first of {count} ports in a row that are free: PORT=…"
            )


def together(port: int, data: Path, env: Mapping[str, str]) -> list[Module]:
    """Put all modules into one process."""
    ports = ("--port", port), ("--link-port", port + 1), ("--enrol-port", port + 2)
    serves = f"page and API; link on {port + 1}, enrolment on {port + 2}"
    command = Command("central", _arguments("all", data, ports), {**os.environ, **env})
    return [Module("central", command, _url(port), serves)]


def apart(port: int, data: Path, env: Mapping[str, str]) -> list[Module]:
    """Make a process of each module; storage is first, for it brings the database up to date.

    Storage alone is told the owner of the database.
    """
    given = {**os.environ, **env}
    plain = {name: value for name, value in given.items() if name != _OWNER}
    egress = port + PORTS - 1
    front = {**plain, "SPINE_EGRESS_URL": _url(egress)}
    link = ("--link-port", port + 1), ("--enrol-port", port + 2)
    return [
        _with_health("storage", port, data, given, "writes"),
        _with_health(
            "ingress", port, data, plain, f"link on {port + 1}, enrolment on {port + 2}", *link
        ),
        _with_health("messaging", port, data, plain, "keeps topics and schemas"),
        _with_health("analytics", port, data, plain, "follows the live lane"),
        _human("egress", egress, data, plain, "API"),
        _human("application", port, data, front, "page, login, and the API through it"),
    ]


def bring_up(processes: Processes, modules: Sequence[Module], limit_s: float) -> None:
    """Start modules and wait until each is ready: the first, then all others at once."""
    for some in (modules[:1], modules[1:]):
        for module in some:
            processes.start(module.command)
        for module in some:
            await_ready(processes, module, limit_s)


def await_ready(processes: Processes, module: Module, limit_s: float) -> None:
    """Wait until a module is ready; raises `RunFailed` that tells what it waits for."""
    told = _Told(module)
    processes.wait(told, told.is_ready, limit_s)


class _Told:
    """Asks a module whether it is ready, and is the text of what it said last."""

    def __init__(self, module: Module) -> None:
        self._module = module
        self._said: str | None = "not asked"

    def is_ready(self) -> bool:
        self._said = self._module.problem()
        return self._said is None

    def __str__(self) -> str:
        return f"{self._module.name} is not ready ({self._said})"


def _with_health(
    name: str,
    port: int,
    data: Path,
    env: Mapping[str, str],
    serves: str,
    *ports: tuple[str, int],
) -> Module:
    health = port + _HEALTH[name]
    arguments = _arguments(name, data, (*ports, ("--health-port", health)))
    return Module(name, Command(name, arguments, env), _url(health), serves)


def _human(name: str, port: int, data: Path, env: Mapping[str, str], serves: str) -> Module:
    command = Command(name, _arguments(name, data, [("--port", port)]), env)
    return Module(name, command, _url(port), serves)


def _arguments(name: str, data: Path, ports: Sequence[tuple[str, int]]) -> tuple[str, ...]:
    flags = [text for flag, port in ports for text in (flag, str(port))]
    return ("-m", "central", name, "--data", str(data), *flags)


def _url(port: int) -> str:
    return f"http://127.0.0.1:{port}"


def _read_problem(body: bytes) -> str:
    try:
        dependencies = json.loads(body)["dependencies"]
        away = {name: one["state"] for name, one in dependencies.items() if not one["ready"]}
    except (ValueError, KeyError, TypeError):
        return "an answer that nobody understands"
    return "; ".join(f"{name}: {state}" for name, state in away.items())
