"""How one instance is started and ended, with servers that are shell scripts."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from signal import SIGTERM, Signals
from threading import Event, Timer

import pytest

from deploy.central.native import processes, runner
from deploy.central.native.cache import Cache
from deploy.central.native.runner import Runner
from deploy.central.native.service import Instance, Profile, Service, Stack, StackFailed
from deploy.central.native.state import StateFile

SERVES = "echo serving; touch serves; exec sleep 3600"


@dataclass
class ScriptService:
    """A server that serves as soon as there is a file `serves` in its folder."""

    script: str
    start_s: float = 30.0
    name: str = "script"
    version: str = "1"
    ports: Sequence[str] = ()
    stop_signal: Signals = SIGTERM
    prepared: int = 0
    settled: int = 0
    settled_by: int = 1

    def instances(self, profile: Profile) -> Sequence[str]:
        return (self.name,)

    def missing(self, cache: Cache) -> list[str]:
        return []

    def install(self, cache: Cache) -> None: ...

    def prepare(self, instance: Instance) -> None:
        self.prepared += 1

    def command(self, instance: Instance) -> Sequence[str]:
        return ["sh", "-c", self.script]

    def is_ready(self, instance: Instance) -> bool:
        return (instance.folder / "serves").exists()

    def settle(self, instance: Instance) -> None:
        self.settled += 1
        if self.settled < self.settled_by:
            raise StackFailed(f"not yet: {self.settled}")

    def env(self, stack: Stack) -> Mapping[str, str]:
        return {}


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    yield Stack(tmp_path, "dev", Cache(tmp_path), {"script": {}})
    processes.kill(list(processes.marked(tmp_path)), 30)


def make(stack: Stack, service: Service, told: list[str] | None = None) -> Runner:
    instance = Instance("script", stack)
    tell = (told if told is not None else []).append
    return Runner(service, instance, StateFile(stack.folder), tell, Event())


def is_noted(stack: Stack) -> bool:
    return StateFile(stack.folder).read().alive("script") is not None


def test_a_server_is_settled_once_it_serves(stack: Stack) -> None:
    service = ScriptService(SERVES)
    made = make(stack, service)
    made.begin()
    made.finish()
    assert (service.prepared, service.settled) == (1, 1)
    assert is_noted(stack)


def test_a_server_that_cannot_be_settled_yet_is_asked_again(stack: Stack) -> None:
    service = ScriptService(SERVES, settled_by=3)
    made = make(stack, service)
    made.begin()
    made.finish()
    assert service.settled == 3


def test_a_server_that_can_never_be_settled_is_told(stack: Stack) -> None:
    made = make(stack, ScriptService(SERVES, start_s=1.0, settled_by=10_000))
    made.begin()
    with pytest.raises(StackFailed, match="not yet"):
        made.finish()


def test_a_server_that_runs_is_not_started_again(stack: Stack) -> None:
    service = ScriptService(SERVES)
    made = make(stack, service)
    made.begin()
    made.finish()
    made.begin()
    assert service.prepared == 1


def test_a_server_that_ends_by_itself_is_quoted(stack: Stack) -> None:
    made = make(stack, ScriptService("echo the disk is gone; exit 1"))
    made.begin()
    with pytest.raises(StackFailed, match=r"script ended by itself; .*/log:\nthe disk is gone"):
        made.finish()
    assert not is_noted(stack)


def test_a_server_that_never_serves_is_ended_and_quoted(stack: Stack) -> None:
    made = make(stack, ScriptService("echo waiting; exec sleep 3600", start_s=0.3))
    made.begin()
    with pytest.raises(StackFailed, match=r"does not serve after 0.3 s and was ended"):
        made.finish()
    assert not is_noted(stack)
    assert list(processes.marked(stack.folder)) == []


def test_waiting_for_a_start_can_be_given_up(stack: Stack) -> None:
    made = make(stack, ScriptService("exec sleep 3600"))
    made.begin()
    timer = Timer(0.2, made.given_up.set)
    timer.start()
    with pytest.raises(StackFailed, match="given up"):
        made.finish()
    timer.join()


def test_a_server_that_heeds_no_request_is_killed(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "STOP_S", 0.2)
    told: list[str] = []
    # The trap is set before it serves; the loop goes on when its sleep is killed.
    made = make(
        stack, ScriptService("trap '' TERM; touch serves; while :; do sleep 3600; done"), told
    )
    made.begin()
    made.finish()
    made.ask_to_stop()
    made.end()
    assert told == ["script: does not end by itself, is killed"]
    assert list(processes.marked(stack.folder)) == []


def test_a_server_asked_to_stop_has_time_to_do_so(stack: Stack) -> None:
    script = "trap 'echo tidied >> tidy; exit' TERM; touch serves; while :; do sleep 0.05; done"
    told: list[str] = []
    made = make(stack, ScriptService(script), told)
    made.begin()
    made.finish()
    made.ask_to_stop()
    made.end()
    assert (stack.folder / "script/tidy").read_text() == "tidied\n"
    assert told == []
    assert not is_noted(stack)


def test_what_a_start_that_was_cut_short_left_is_ended_first(stack: Stack) -> None:
    folder = stack.folder / "script"
    folder.mkdir()
    left = processes.spawn(["sleep", "3600"], folder, folder / "log")
    told: list[str] = []
    made = make(stack, ScriptService(SERVES), told)
    made.begin()
    made.finish()
    assert told == ["script: ending what an earlier start left running"]
    assert not left.is_alive()


def test_a_long_log_makes_room_for_a_new_one(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "_LOG_BYTES", 100)
    folder = stack.folder / "script"
    folder.mkdir()
    (folder / "log").write_text("x" * 101)
    made = make(stack, ScriptService(SERVES))
    made.begin()
    made.finish()
    assert (folder / "log.old").read_text() == "x" * 101
    end_s = time.monotonic() + 30
    while (folder / "log").read_text() != "serving\n":
        assert time.monotonic() < end_s
