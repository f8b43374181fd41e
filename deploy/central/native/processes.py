"""Processes of their own session: start, recognise again, signal, end with all their children.

A process is known by its pid and the tick it was created at in this boot of the machine, so
that a stale note never leads to a foreign process. A mark in the environment finds those that
were started and never noted.
"""

import contextlib
import os
import select
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

_PROC: Final = Path("/proc")
_MARK: Final = "SPINE_STACK_INSTANCE"
_SHELL: Final = 'umask 077 && cd "$1" && shift && exec "$@"'
_ENDED: Final = b"ZX"
"""States of a thread that runs no more: waits to be reaped, or is being removed."""


@dataclass(frozen=True, slots=True)
class Process:
    """One process, told apart from any later one that is given the same pid."""

    pid: int
    created: int
    """Clock ticks from the machine's start."""
    boot: str

    @classmethod
    def find(cls, pid: int) -> Self | None:
        """Look a living process up by its pid."""
        fields = _stat(pid)
        if fields is None:
            return None
        # The first thread may be gone while others still hold the files and ports of all.
        if fields[0] in _ENDED and int(fields[17]) <= 1:
            return None
        return cls(pid, int(fields[19]), _boot_id())

    def is_alive(self) -> bool:
        """Tell whether it still runs; a child of ours that ended is reaped."""
        if Process.find(self.pid) == self:
            return True
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.pid, os.WNOHANG)
        return False

    def wait(self, timeout_s: float) -> bool:
        """Wait until it has ended; false when it has not in time."""
        try:
            handle = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return not self.is_alive()
        try:
            # The handle is of this very process if it is the one noted, now that it is open.
            if self.is_alive():
                poll = select.poll()
                poll.register(handle, select.POLLIN)
                poll.poll(timeout_s * 1_000)
            return not self.is_alive()
        finally:
            os.close(handle)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, to this very process or to none."""
        with contextlib.suppress(ProcessLookupError):
            handle = os.pidfd_open(self.pid)
            try:
                if self.is_alive():
                    signal.pidfd_send_signal(handle, number)
            finally:
                os.close(handle)

    def memory_bytes(self) -> int:
        """Give its share of memory: what several processes use together counts once in a sum."""
        with contextlib.suppress(OSError):
            for line in (_PROC / str(self.pid) / "smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    return int(line.split()[1]) * 1024
        return 0


def spawn(command: Sequence[str], folder: Path, log: Path, *, mark: bool = True) -> Process:
    """Start a program in a folder, in a session of its own that outlives this process."""
    environment = {
        "HOME": str(folder),
        "LANG": "C.UTF-8",
        "PATH": os.environ.get("PATH", os.defpath)
        + os.pathsep
        + "/usr/sbin"
        + os.pathsep
        + "/sbin",
        **({_MARK: str(folder)} if mark else {}),
    }
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        pid = os.posix_spawn(
            "/bin/sh",
            ["sh", "-c", _SHELL, "sh", str(folder), *command],
            environment,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_DUP2, output, 1),
                (os.POSIX_SPAWN_DUP2, output, 2),
            ],
            setsid=True,
            setsigmask=(),
            setsigdef=(signal.SIGINT, signal.SIGQUIT, signal.SIGPIPE),
        )
    finally:
        os.close(output)
    fields = _stat(pid)
    # Our own child cannot vanish before we reap it.
    assert fields is not None  # noqa: S101 - see above
    return Process(pid, int(fields[19]), _boot_id())


def marked(folder: Path) -> Iterator[Process]:
    """Find processes that were started in a folder or one below it, by their mark."""
    here = f"{_MARK}={folder}".encode()
    for pid in _pids():
        with contextlib.suppress(OSError):
            lines = (_PROC / str(pid) / "environ").read_bytes().split(b"\0")
            if any(line == here or line.startswith(here + b"/") for line in lines):
                found = Process.find(pid)
                if found is not None:
                    yield found


def family(roots: Sequence[Process]) -> set[Process]:
    """Find the living among some processes, and all their descendants."""
    children: dict[int, list[int]] = {}
    for pid in _pids():
        fields = _stat(pid)
        if fields is not None:
            children.setdefault(int(fields[1]), []).append(pid)
    found = {root for root in roots if root.is_alive()}
    waiting = [root.pid for root in found]
    while waiting:
        below = children.get(waiting.pop(), [])
        waiting.extend(below)
        found.update(child for child in map(Process.find, below) if child is not None)
    return found


def kill(roots: Sequence[Process], timeout_s: float) -> bool:
    """End processes and all their descendants at once (kill -9); false when one is left."""
    doomed: set[Process] = set()
    while found := family(roots) - doomed:
        for process in found:
            process.signal(signal.SIGSTOP)  # so that it makes no child after it was looked at
        doomed |= found
    for process in doomed:
        process.signal(signal.SIGKILL)
    return all(process.wait(timeout_s) for process in doomed)


def _pids() -> list[int]:
    return [int(path.name) for path in _PROC.iterdir() if path.name.isdigit()]


def _stat(pid: int) -> list[bytes] | None:
    """Read the fields after the command's name: state, parent and so on."""
    try:
        return (_PROC / str(pid) / "stat").read_bytes().rpartition(b") ")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None


def _boot_id() -> str:
    return (_PROC / "sys/kernel/random/boot_id").read_text().strip()
