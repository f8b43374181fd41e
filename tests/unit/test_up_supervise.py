"""A module that ends by itself is started again: told once, with growing waits; and folders."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from deploy.central.modules import PORTS, STOP_ORDER, Module, apart, together
from deploy.central.processes import REPOSITORY, Command, Processes, RunFailed, held
from deploy.central.supervise import STEADY_S, Supervisor

FOR_EVER = "import signal, sys; print('up', flush=True); signal.pause()"


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    made = Processes(tmp_path)
    yield made
    made.end()


def python(name: str, text: str, *arguments: str) -> Command:
    return Command(name, ("-c", text, *arguments))


def await_log(processes: Processes, name: str, lines: int) -> None:
    def has_lines() -> bool:
        return processes.log(name).read_text().count("\n") >= lines

    processes.wait(f"{name} has not written {lines} lines", has_lines, 60, name)


def await_end(processes: Processes, name: str) -> int:
    child = processes._children[name].process
    return child.wait(60)


class Time:
    """A clock that the test turns."""

    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_one_that_ends_is_started_again_and_told_once_until_it_runs_steadily(
    processes: Processes,
) -> None:
    said: list[str] = []
    time = Time()
    processes.start(python("a", FOR_EVER))
    supervisor = Supervisor(processes, ["a"], said.append, time)
    supervisor.look()
    assert said == []
    for _ in range(3):
        await_log(processes, "a", 1)
        before = processes.pid("a")
        processes._children["a"].process.send_signal(signal.SIGKILL)
        await_end(processes, "a")
        supervisor.look()
        time.now_s += 31  # longer than any wait
        supervisor.look()
        assert processes.pid("a") != before
        assert processes.result("a") is None
    assert len(said) == 1
    assert said[0].startswith("a ended by itself by signal 9; it is started again.")
    time.now_s += STEADY_S
    supervisor.look()
    assert said[1] == "a runs steadily again"
    supervisor.look()
    assert len(said) == 2


def test_it_is_started_at_once_the_first_time_and_later_the_second(processes: Processes) -> None:
    time = Time()
    processes.start(python("a", "raise SystemExit(3)"))
    supervisor = Supervisor(processes, ["a"], lambda _: None, time)
    await_end(processes, "a")
    supervisor.look()
    first = processes.pid("a")
    supervisor.look()
    second = processes.pid("a")
    assert second != first
    await_end(processes, "a")
    supervisor.look()
    supervisor.look()
    assert processes.pid("a") == second


def test_a_process_that_ends_fails_a_wait_with_its_last_lines(processes: Processes) -> None:
    processes.start(python("a", "import sys; sys.exit('the reason')"))
    with pytest.raises(RunFailed, match=r"a ended by itself \(1\)(.|\n)*the reason"):
        processes.wait("nothing", lambda: False, 60)


def test_what_was_never_true_is_named_after_the_limit(processes: Processes) -> None:
    with pytest.raises(RunFailed, match="no building after 0 s"):
        processes.wait("no building", lambda: False, 0)
    processes.stop.set()
    with pytest.raises(KeyboardInterrupt):
        processes.wait("no building", lambda: False, 60)


def test_processes_end_in_the_order_asked_for(processes: Processes, tmp_path: Path) -> None:
    text = (
        "import signal, sys, pathlib\n"
        "def end(*_): open(sys.argv[1], 'a').write(sys.argv[2] + ' '); sys.exit()\n"
        "signal.signal(signal.SIGTERM, end); print('up', flush=True)\n"
        "while True: signal.pause()\n"
    )
    ended = tmp_path / "ended"
    for name in ("storage", "other", "ingress"):
        processes.start(python(name, text, str(ended), name))
        await_log(processes, name, 1)
    processes.end(STOP_ORDER)
    assert ended.read_text() == "ingress storage other "


START_AND_DIE = """
import os, sys
from pathlib import Path
from deploy.central.processes import Command, Processes
processes = Processes(Path(sys.argv[1]))
for name, text in (("gone", "pass"), ("left", sys.argv[1]), ("foreign", "elsewhere")):
    body = "import signal; signal.pause()" if name != "gone" else "pass"
    processes.start(Command(name, ("-c", body, text)))
os._exit(9)
"""


def test_what_a_killed_run_left_is_ended_and_nobody_else(tmp_path: Path) -> None:
    command = [sys.executable, "-c", START_AND_DIE, str(tmp_path)]
    assert subprocess.run(command, cwd=REPOSITORY, check=False).returncode == 9
    listed = json.loads((tmp_path / "running.json").read_text())
    try:
        assert psutil.pid_exists(listed["left"])
        Processes(tmp_path).end_leftovers()
        with contextlib.suppress(psutil.NoSuchProcess):
            assert psutil.Process(listed["left"]).status() == psutil.STATUS_ZOMBIE
        assert psutil.Process(listed["foreign"]).status() != psutil.STATUS_ZOMBIE
    finally:
        os.kill(listed["foreign"], signal.SIGKILL)


def test_a_folder_is_held_once(tmp_path: Path) -> None:
    with (
        held(tmp_path / "a", "central"),
        pytest.raises(RunFailed, match="central runs already"),
        held(tmp_path / "a", "central"),
    ):
        pytest.fail("held twice")
    with held(tmp_path / "a", "central"):
        pass


def test_the_six_modules_have_ports_of_their_own_and_one_knows_the_owner(tmp_path: Path) -> None:
    env = {"SPINE_DSN": "x", "SPINE_OWNER_DSN": "secret"}
    modules = apart(1000, tmp_path, env)
    assert sorted(module.name for module in modules) == sorted(set(STOP_ORDER) - {"central"})
    ports = [
        text for module in modules for text in module.command.arguments if text.startswith("10")
    ]
    assert sorted(map(int, ports)) == list(range(1000, 1000 + PORTS))
    knowing = [one.name for one in modules if "SPINE_OWNER_DSN" in (one.command.env or {})]
    assert knowing == ["storage"]
    front = next(one for one in modules if one.name == "application")
    egress = next(one for one in modules if one.name == "egress")
    assert (front.command.env or {})["SPINE_EGRESS_URL"] == egress.url
    assert not any("secret" in text for one in modules for text in one.command.arguments)
    [central] = together(1000, tmp_path, env)
    assert central.command.arguments[:3] == ("-m", "central", "all")


def test_a_module_that_nobody_answers_for_is_told(tmp_path: Path) -> None:
    module = Module("a", Command("a", (sys.executable,)), "http://127.0.0.1:9", "nothing")
    assert "no answer at http://127.0.0.1:9" in str(module.problem())
