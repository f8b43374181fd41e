"""The real servers and the processes of central that stages measure, while a context lasts.

Servers come from the native launcher, in a folder of their own that is thrown away. Where
`BENCH_STACK` names the folder of a stack that runs already, its servers are used and left running.
"""

import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import psutil

from bench.stage import StageCannotRun
from central.settings import Settings
from deploy.central.modules import PORTS, apart, await_ready
from deploy.central.native import launcher, timescale_root
from deploy.central.native.cache import Cache
from deploy.central.native.service import StackFailed
from deploy.central.processes import Processes

NEEDED: Final = ("kafka", "registry", "timescale")
START_S: Final = 120.0
_PREFIX: Final = "SPINE_"


def cpu_s(pid: int) -> float:
    """Count the CPU seconds of a process and of all it started, also what has ended since."""
    root = psutil.Process(pid)
    spent = 0.0
    for process in (root, *root.children(recursive=True)):
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue  # it has ended just now: its parent has its time
        spent += times.user + times.system + times.children_user + times.children_system
    return spent


@dataclass(frozen=True, slots=True)
class Servers:
    """Servers that run: the settings that lead central to them, and their processes by name."""

    env: Mapping[str, str]
    pids: Mapping[str, int]
    superuser: str

    def settings(self, data: Path) -> Settings:
        """Give the settings of a central that works on them."""
        given = {name.removeprefix(_PREFIX).lower(): value for name, value in self.env.items()}
        return Settings(**{**given, "data": data})  # type: ignore[arg-type]  # pydantic reads texts


@contextmanager
def servers(folder: Path, needed: Sequence[str] = NEEDED) -> Iterator[Servers]:
    """Run the servers. Raises `StageCannotRun` that says what the machine lacks."""
    kept = os.environ.get("BENCH_STACK")
    told = _read_env(Path(kept) / "env") if kept else {}
    if not kept:
        _refuse_missing(needed)
    stack = launcher.Launcher(Path(kept) if kept else folder, tied=not kept)
    try:
        told = told or stack.up(needed)
        env = {name: value for name, value in told.items() if name.startswith(_PREFIX)}
        pids = {name: stack.pid(name) for name in stack.names()}
        yield Servers(env, pids, told.get("STACK_POSTGRES_DSN", ""))
    except StackFailed as error:
        raise StageCannotRun(str(error)) from error
    finally:
        if not kept:
            stack.down()


def _refuse_missing(needed: Sequence[str]) -> None:
    lacks = {name: launcher.missing(name) for name in needed}
    lines = [f"{name}: {', '.join(missing)}" for name, missing in lacks.items() if missing]
    if lines:
        raise StageCannotRun(f"the servers it needs cannot run here. {'; '.join(lines)}")


def _read_env(path: Path) -> dict[str, str]:
    if not path.exists():
        raise StageCannotRun(f"no stack runs in {path.parent}, which BENCH_STACK names")
    lines = (line.partition("=") for line in path.read_text("utf-8").splitlines())
    return {name: value for name, _, value in lines}


def psql() -> str:
    """Give the psql of the database's own version."""
    return str(timescale_root.bin_folder(Cache.of_user()) / "psql")


@dataclass(frozen=True, slots=True)
class Central:
    """Modules that run, each its own process: where the link is, and their processes by name."""

    link_port: int
    pids: Mapping[str, int]

    def cpu_s(self) -> dict[str, float]:
        """Count the CPU seconds of each module so far."""
        return {name: cpu_s(pid) for name, pid in self.pids.items()}


@contextmanager
def central(run: Servers, folder: Path, names: Sequence[str]) -> Iterator[Central]:
    """Run modules of central, storage first."""
    port = _free_ports(PORTS)
    env = {name: value for name, value in os.environ.items() if not name.startswith(_PREFIX)}
    told = {**run.env, "SPINE_LOG_LEVEL": "warning"}
    modules = [each for each in apart(port, folder / "data", {**env, **told}) if each.name in names]
    logs = folder / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    processes = Processes(logs)
    try:
        for module in modules:
            processes.start(module.command)
            await_ready(processes, module, START_S)
        yield Central(port + 1, {name: processes.pid(name) for name in names})
    finally:
        processes.end()


def _free_ports(count: int) -> int:
    """Find so many ports in a row that nobody uses now."""
    for first in range(20_000, 32_000, count):
        with ExitStack() as held:
            try:
                for port in range(first, first + count):
                    held.enter_context(socket.socket()).bind(("127.0.0.1", port))
            except OSError:
                continue
            return first
    raise StageCannotRun("no ports are free on 127.0.0.1 between 20000 and 32000")


@contextmanager
def workplace() -> Iterator[Path]:
    """Give a folder of a run that servers of other users may enter."""
    with TemporaryDirectory(prefix="spine-bench-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder
