"""Processes of ours that live as long as a run in one folder: started, watched, ended in order.

Standard library alone: the demo starts with it.
"""

import contextlib
import fcntl
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

REPOSITORY: Final = Path(__file__).resolve().parents[2]
STOP_S: Final = 15.0
POLL_S: Final = 0.1
_LIST: Final = "running.json"
_LAST_LINES: Final = 8


class RunFailed(Exception):
    """The run cannot start or go on; the text says what to do."""


@dataclass(frozen=True, slots=True)
class Command:
    """How a process is started: arguments of Python, and its environment (None: as here)."""

    name: str
    arguments: tuple[str, ...]
    env: Mapping[str, str] | None = None


@dataclass(slots=True)
class _Child:
    command: Command
    process: subprocess.Popen[bytes]


class Processes:
    """The processes of one folder; `stop` is set when a person or a service asks to end them.

    Their names lie in `running.json`, so that the next run can end what a killed one left.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.stop = threading.Event()
        self._children: dict[str, _Child] = {}

    def start(self, command: Command) -> None:
        """Start a process, again if it has ended; what it writes goes to `<name>.log`."""
        with self.log(command.name).open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, *command.arguments],
                cwd=REPOSITORY,
                env=command.env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._children[command.name] = _Child(command, process)
        self._write_list()

    def start_again(self, name: str) -> None:
        """Start a process that has ended as it was started before."""
        self.start(self._children[name].command)

    def log(self, name: str) -> Path:
        """Tell where a process writes."""
        return self.folder / f"{name}.log"

    def pid(self, name: str) -> int:
        """Tell the id of a process."""
        return self._children[name].process.pid

    def result(self, name: str) -> int | None:
        """Tell how a process ended: 0 well, below 0 by a signal; None while it runs."""
        return self._children[name].process.poll()

    def end_of(self, name: str) -> str | None:
        """Tell in words how a process ended; None while it runs."""
        result = self.result(name)
        if result is None:
            return None
        return f"by signal {-result}" if result < 0 else f"with code {result}"

    def has_ended_well(self, name: str) -> bool:
        """Tell whether a process that has an end came to it; it is forgotten then."""
        if self.result(name) != 0:
            return False
        del self._children[name]
        return True

    def wait(self, what: object, is_true: Callable[[], bool], limit_s: float, *ends: str) -> None:
        """Wait until something is true; fail when it takes too long or a process ends.

        A process named in `ends` may end well meanwhile. Raises `KeyboardInterrupt` at `stop`.
        """
        end_s = time.monotonic() + limit_s
        while not is_true():
            self.check_alive(*ends)
            if time.monotonic() > end_s:
                raise RunFailed(f"{what} after {limit_s:.0f} s; see the logs in {self.folder}")
            if self.stop.wait(POLL_S):
                raise KeyboardInterrupt

    def check_alive(self, *ends: str, but: Sequence[str] = ()) -> None:
        """Fail with the last lines of its log when a process has ended by itself.

        A process in `ends` may end well; one in `but` is looked after by another.
        """
        for name in self._children.keys() - set(but):
            ended = self.result(name)
            if ended if name in ends else ended is not None:
                log = self.log(name)
                last = "\n".join(log.read_text(errors="replace").splitlines()[-_LAST_LINES:])
                raise RunFailed(f"{name} ended by itself ({ended}); {log}:\n{last}")

    def end(self, order: Sequence[str] = ()) -> None:
        """Stop all processes one after the other, those of `order` first."""
        for name in [*order, *self._children]:
            child = self._children.pop(name, None)
            if child is not None:
                _end(child.process)
        (self.folder / _LIST).unlink(missing_ok=True)

    def end_leftovers(self) -> None:
        """End what an earlier run that was killed has left here, what it started last first."""
        try:
            pids = list(json.loads((self.folder / _LIST).read_text()).values())
        except (OSError, ValueError):
            return
        for pid in reversed(pids):
            self._end_leftover(pid)

    def _end_leftover(self, pid: int) -> None:
        try:
            handle = os.pidfd_open(pid)
        except ProcessLookupError:
            return
        try:
            if self._is_ours(pid):
                _end_by(handle)
        finally:
            os.close(handle)

    def _is_ours(self, pid: int) -> bool:
        """Tell whether a process still runs that names this folder in its command line."""
        try:
            return str(self.folder).encode() in Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            return False

    def _write_list(self) -> None:
        pids = {name: child.process.pid for name, child in self._children.items()}
        (self.folder / _LIST).write_text(json.dumps(pids))


@contextlib.contextmanager
def held(folder: Path, what: str) -> Iterator[None]:
    """Hold a folder for this run alone, from making it on; raises `RunFailed` where one runs."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            text = f"{what} runs already with the data in {folder}: end it first"
            raise RunFailed(text) from error
        yield


def run_alone(folder: Path, what: str, work: Callable[[Processes], None]) -> int:
    """Do work with the processes of a folder that is its alone; gives the exit code.

    What an earlier run left is ended first. What fails is told, and a signal ends it in order.
    """
    interrupt_on_signals()
    try:
        with held(folder, what):
            processes = Processes(folder)
            processes.end_leftovers()
            work(processes)
    except RunFailed as error:
        print(f"{what}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        pass
    return 0


def interrupt_on_signals() -> None:
    """Let the signals that ask for an end raise `KeyboardInterrupt` in what runs now."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    _on_signals(interrupt)


def stop_on_signals(stop: threading.Event) -> None:
    """Let the signals that ask for an end set the event, and disturb nothing."""
    _on_signals(lambda *_: stop.set())


def write_private(path: Path, text: str) -> None:
    """Write a file that its owner alone may read."""
    path.touch(mode=0o600)
    path.write_text(text)


def _on_signals(act: Callable[..., None]) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, act)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _end_by(handle: int) -> None:
    """End the process of a pidfd; returns when it has let go of its files and ports."""
    gone = select.poll()
    gone.register(handle, select.POLLIN)
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(handle, number)
        if gone.poll(STOP_S * 1_000):
            return
