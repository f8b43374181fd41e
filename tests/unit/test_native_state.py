"""What a stack remembers: its ports, its processes if they are still the same, its secrets."""

import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from signal import SIGKILL

import pytest

from deploy.central.native import processes
from deploy.central.native.cache import Cache
from deploy.central.native.ports import choose, give_ports, is_free, take_back_ports
from deploy.central.native.processes import Process
from deploy.central.native.service import HOST, Instance, Stack, StackFailed
from deploy.central.native.services import SERVICES, find
from deploy.central.native.state import State, StateFile, noted_now
from deploy.central.native.status import Row, rows, table


@pytest.fixture
def sleeper(tmp_path: Path) -> Iterator[Process]:
    process = processes.spawn(["sleep", "3600"], tmp_path, tmp_path / "log")
    yield process
    process.signal(SIGKILL)
    assert process.wait(30)


def test_what_was_noted_is_read_again(tmp_path: Path, sleeper: Process) -> None:
    file = StateFile(tmp_path)
    with file.changing() as state:
        state.profile = "dev"
        state.ports["kafka"] = {"broker": 20_000}
        state.running["kafka"] = noted_now(sleeper)
    again = StateFile(tmp_path).read()
    assert again == state
    assert again.alive("kafka") == sleeper
    assert again.alive("registry") is None


def test_a_note_of_an_earlier_process_leads_to_none(sleeper: Process) -> None:
    stale = replace(sleeper, created=sleeper.created - 1)
    assert State(running={"kafka": noted_now(stale)}).alive("kafka") is None


def test_a_folder_that_is_not_there_remembers_nothing(tmp_path: Path) -> None:
    assert StateFile(tmp_path / "none").read() == State()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"profile": "dev"}'])
def test_a_damaged_state_file_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "state.json").write_text(text)
    with pytest.raises(StackFailed, match=r"state\.json is damaged"):
        StateFile(tmp_path).read()


def test_a_change_that_fails_changes_nothing(tmp_path: Path) -> None:
    file = StateFile(tmp_path)

    def change() -> None:
        with file.changing() as state:
            state.profile = "dev"
            raise StackFailed("no")

    with pytest.raises(StackFailed):
        change()
    assert file.read() == State()


def test_ports_stay_from_start_to_start() -> None:
    state = State()
    give_ports(state, SERVICES, "staging")
    before = {name: dict(ports) for name, ports in state.ports.items()}
    take_back_ports(state, SERVICES, "staging")
    give_ports(state, SERVICES, "staging")
    assert state.ports == before
    every = [port for ports in before.values() for port in ports.values()]
    assert len(every) == len(set(every))
    assert {"kafka1", "kafka2", "kafka3", "registry"} <= before.keys()


def test_a_port_another_program_took_is_given_up_while_the_service_is_down() -> None:
    state, service = State(), find("mosquitto")
    give_ports(state, [service], "dev")
    port = state.ports["mosquitto"]["mqtt"]
    with socket.create_server((HOST, port)):
        assert not is_free(port)
        give_ports(state, [service], "dev")
        assert state.ports["mosquitto"]["mqtt"] == port
        take_back_ports(state, [service], "dev")
        give_ports(state, [service], "dev")
        assert state.ports["mosquitto"]["mqtt"] != port


def test_a_running_service_keeps_its_port(sleeper: Process) -> None:
    state, service = State(running={"mosquitto": noted_now(sleeper)}), find("mosquitto")
    give_ports(state, [service], "dev")
    port = state.ports["mosquitto"]["mqtt"]
    with socket.create_server((HOST, port)):
        take_back_ports(state, [service], "dev")
    assert state.ports["mosquitto"]["mqtt"] == port


def test_ports_are_none_that_outgoing_connections_get() -> None:
    first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    taken: set[int] = set()
    for _ in range(200):
        port = choose(taken)
        assert port < first
        assert port not in taken
        taken.add(port)


def test_a_secret_is_made_once_and_its_owners_alone(tmp_path: Path) -> None:
    stack = Stack(tmp_path, "dev", Cache(tmp_path))
    secret = stack.secret("postgres")
    assert len(secret) >= 32
    assert stack.secret("postgres") == secret != stack.secret("registry")
    assert (tmp_path / "secrets/postgres").stat().st_mode & 0o777 == 0o600


def test_two_stacks_have_different_secrets(tmp_path: Path) -> None:
    one, other = (Stack(tmp_path / name, "dev", Cache(tmp_path)) for name in "ab")
    assert one.secret("postgres") != other.secret("postgres")


def test_status_of_a_stack_that_never_ran_shows_all_down(tmp_path: Path) -> None:
    stack = Stack(tmp_path, "staging", Cache(tmp_path))
    found = list(rows(stack, State(), SERVICES))
    assert [row.name for row in found][:3] == ["kafka1", "kafka2", "kafka3"]
    assert {row.state for row in found} == {"down"}


def test_a_process_that_does_not_answer_is_silent(tmp_path: Path, sleeper: Process) -> None:
    state, service = State(running={"mosquitto": noted_now(sleeper)}), find("mosquitto")
    give_ports(state, [service], "dev")
    stack = Stack(tmp_path, "dev", Cache(tmp_path), state.ports)
    (row,) = rows(stack, state, [service])
    assert (row.name, row.state, row.pid) == ("mosquitto", "silent", sleeper.pid)
    assert row.memory_bytes > 0


def test_the_table_is_laid_out_in_columns() -> None:
    shown = table([Row("kafka", "4.4.0", "ready", 20_000, 77, 300 << 20), Row("x", "1", "down")])
    head, first, second = shown.splitlines()
    assert head.split() == ["INSTANCE", "VERSION", "STATE", "PORT", "PID", "MEMORY", "SINCE"]
    assert first.split()[:6] == ["kafka", "4.4.0", "ready", "20000", "77", "300"]
    assert second.split() == ["x", "1", "down", "-", "-", "-", "-"]
    assert head.index("STATE") == first.index("ready") == second.index("down")


def test_an_instance_lies_in_the_stacks_folder(tmp_path: Path) -> None:
    instance = Instance("kafka1", Stack(tmp_path, "staging", Cache(tmp_path)))
    assert instance.data == tmp_path / "kafka1/data"
