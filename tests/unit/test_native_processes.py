"""Processes are recognised by more than a pid, and end with all their children."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from threading import Event

import pytest

from deploy.central.native import processes
from deploy.central.native.processes import Process

DEADLINE_S = 30.0
PAUSE = Event()
FOREVER = "3600"
# The first thread ends at once; the second goes on and keeps the port.
ONE_THREAD_LEFT = """
import ctypes, socket, threading
server = socket.create_server(("127.0.0.1", 0))
print(server.getsockname()[1], flush=True)
threading.Thread(target=threading.Event().wait, daemon=True).start()
ctypes.CDLL(None).pthread_exit(None)
"""


def until(condition: Callable[[], bool], what: str) -> None:
    end_s = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < end_s, what
        PAUSE.wait(0.01)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    processes.kill(list(processes.marked(tmp_path)), DEADLINE_S)


def spawn(folder: Path, *command: str) -> Process:
    return processes.spawn(command, folder, folder / "log")


def test_a_process_has_a_session_a_folder_and_a_log_of_its_own(folder: Path) -> None:
    process = spawn(folder, "sh", "-c", "pwd; umask; echo $HOME >&2; exec sleep " + FOREVER)
    log = folder / "log"
    until(lambda: log.read_text().count("\n") == 3, "nothing said")
    assert log.read_text().split() == [str(folder), "0077", str(folder)]
    assert log.stat().st_mode & 0o777 == 0o600
    assert os.getsid(process.pid) == process.pid != os.getsid(0)


def test_a_process_is_started_without_the_launchers_environment(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", "of-whoever-starts-it")
    spawn(folder, "sh", "-c", "env; echo end")
    until(lambda: "end" in (folder / "log").read_text(), "nothing said")
    assert "of-whoever-starts-it" not in (folder / "log").read_text()


def test_a_process_started_where_interrupts_are_ignored_heeds_them(folder: Path) -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        process = spawn(folder, "sleep", FOREVER)
    finally:
        signal.signal(signal.SIGINT, before)
    process.signal(signal.SIGINT)
    assert process.wait(DEADLINE_S)


def test_a_later_process_with_the_same_pid_is_another(folder: Path) -> None:
    process = spawn(folder, "sleep", FOREVER)
    stale = replace(process, created=process.created - 1)
    of_another_boot = replace(process, boot="another")
    assert process.is_alive()
    for foreign in (stale, of_another_boot):
        assert not foreign.is_alive()
        foreign.signal(signal.SIGKILL)
        assert processes.kill([foreign], DEADLINE_S)
    assert process.is_alive()


def test_a_child_that_ended_is_reaped(folder: Path) -> None:
    process = spawn(folder, "true")
    assert process.wait(DEADLINE_S)
    assert not process.is_alive()
    assert not Path(f"/proc/{process.pid}").exists()


def test_waiting_for_one_that_goes_on_ends_in_time(folder: Path) -> None:
    assert not spawn(folder, "sleep", FOREVER).wait(0.05)


def test_all_children_end_with_a_killed_process(folder: Path) -> None:
    nested = f"sleep {FOREVER} & setsid sleep {FOREVER} & wait"
    process = spawn(folder, "sh", "-c", f"(sh -c '{nested}') & wait")
    until(lambda: len(processes.family([process])) == 4, "no children")
    family = processes.family([process])
    assert processes.kill([process], DEADLINE_S)
    assert not any(member.is_alive() for member in family)


def test_a_process_ends_only_with_its_last_thread() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", ONE_THREAD_LEFT], stdout=subprocess.PIPE, text=True
    ) as started:
        assert started.stdout is not None
        port = int(started.stdout.readline())
        stat = Path(f"/proc/{started.pid}/stat")
        until(lambda: stat.read_text().rpartition(") ")[2].startswith("Z"), "first thread stays")
        process = Process.find(started.pid)
        assert process is not None
        assert process.is_alive()
        assert processes.kill([process], DEADLINE_S)
        with socket.create_server(("127.0.0.1", port)):
            pass


def test_what_was_never_noted_is_found_by_its_mark(folder: Path) -> None:
    below = folder / "kafka1"
    beside = folder / "kafka10"
    for path in (below, beside):
        path.mkdir()
    first, second = spawn(below, "sleep", FOREVER), spawn(beside, "sleep", FOREVER)
    until(lambda: set(processes.marked(folder)) == {first, second}, "not marked")
    assert list(processes.marked(below)) == [first]


def test_memory_of_a_process_is_told(folder: Path) -> None:
    process = spawn(folder, "sleep", FOREVER)
    until(lambda: process.memory_bytes() > 10_000, "no memory")
    assert replace(process, pid=2**22 - 1).memory_bytes() == 0
