"""The end of a tied stack: waits for one process to end, however it does, and kills the servers.

It runs as a process of its own, for a process that is killed can end nothing itself.
"""

import os
import sys
from pathlib import Path
from typing import Final

from deploy.central.native import processes
from deploy.central.native.processes import Process
from deploy.central.native.runner import KILL_S
from deploy.central.native.state import StateFile, noted_now

_REPOSITORY: Final = Path(__file__).resolve().parents[3]
_NAME: Final = "watch"
_TURN_S: Final = 3_600.0


def start(file: StateFile) -> None:
    """Tie a stack to this very process, unless it is tied already."""
    with file.changing() as state:
        if state.alive(_NAME) is None:
            state.running[_NAME] = noted_now(_spawn(file.folder))


def stop(file: StateFile) -> None:
    """Untie a stack, and forget what it has running: for when nothing of it does."""
    with file.changing() as state:
        watch = state.alive(_NAME)
        if watch is not None:
            processes.kill([watch], KILL_S)
        state.running.clear()


def _spawn(folder: Path) -> Process:
    owner = Process.find(os.getpid())
    assert owner is not None  # noqa: S101 - whoever asks runs
    module = [
        sys.executable,
        "-m",
        "deploy.central.native.watch",
        str(folder),
        str(owner.pid),
        str(owner.created),
    ]
    command = ["env", f"PYTHONPATH={_REPOSITORY}", *module]
    return processes.spawn(command, folder, folder / "watch.log", mark=False)


def main(folder: str, pid: str, created: str) -> None:
    """Wait for the owner's end, then kill all that runs in the folder."""
    owner = Process.find(int(pid))
    if owner is not None and owner.created == int(created):
        while not owner.wait(_TURN_S):
            pass
    processes.kill(list(processes.marked(Path(folder))), KILL_S)


if __name__ == "__main__":
    main(*sys.argv[1:])
