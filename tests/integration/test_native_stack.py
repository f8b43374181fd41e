"""The native stack: real servers that come back with what they held, and end without a trace."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from threading import Event

import psutil
import pytest

from deploy.central.native import processes
from deploy.central.native.launcher import Launcher
from deploy.central.native.processes import Process
from deploy.central.native.service import HOST, StackFailed
from deploy.central.stack_charges import StackCharges
from deploy.central.supervise import Supervisor
from tests.servers.stack import RunningStack, started, temporary_stack
from tests.servers.stack_contents import KEEPERS, kafka_options, topics

pytestmark = pytest.mark.integration

REPOSITORY = Path(__file__).parents[2]
DEADLINE_S = 60.0
TIED = """
import sys
from pathlib import Path
from deploy.central.native.launcher import Launcher
stack = Launcher(Path(sys.argv[1]), tied=True)
stack.up(["mosquitto"])
print(stack.pid("mosquitto"), flush=True)
sys.stdin.read()
"""


@pytest.fixture(scope="module")
async def stack() -> AsyncIterator[RunningStack]:
    """Start all services in a stack of this module's own, for it loses data."""
    async with temporary_stack("dev") as launcher:
        yield await started(launcher, *KEEPERS)


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[Launcher]:
    """Start a stack with the quickest server alone."""
    launcher = Launcher(tmp_path / "stack", tied=True)
    await started(launcher, "mosquitto")
    yield launcher
    await asyncio.to_thread(launcher.reset)


def until(condition: Callable[[], bool], what: str) -> None:
    end_s, pause = time.monotonic() + DEADLINE_S, Event()
    while not condition():
        assert time.monotonic() < end_s, what
        pause.wait(0.02)


def command(*words: str, home: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "deploy.central.native", *words],
        cwd=REPOSITORY,
        env={**os.environ, "XDG_STATE_HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize("name", KEEPERS)
async def test_a_killed_server_comes_back_with_what_it_held(stack: RunningStack, name: str) -> None:
    keep, launcher = KEEPERS[name], stack.launcher
    held = await keep(stack.env, True)
    before = Process.find(launcher.pid(name))
    await asyncio.to_thread(launcher.kill, name)
    assert name not in launcher.names()
    assert before is not None
    assert not before.is_alive()
    await asyncio.to_thread(launcher.start, name)
    assert launcher.pid(name) != before.pid
    assert await keep(stack.env, False) == held


@pytest.mark.parametrize("name", KEEPERS)
async def test_a_second_start_changes_nothing(stack: RunningStack, name: str) -> None:
    pids = {name: stack.launcher.pid(name) for name in stack.launcher.names()}
    assert await asyncio.to_thread(stack.launcher.up, [name]) == stack.env
    await asyncio.to_thread(stack.launcher.start, name)
    assert {name: stack.launcher.pid(name) for name in stack.launcher.names()} == pids


async def test_status_shows_what_serves(stack: RunningStack) -> None:
    rows = {row.name: row for row in await asyncio.to_thread(stack.launcher.status)}
    assert {row.state for row in rows.values()} == {"ready"}
    assert stack.env["SPINE_KAFKA"] == f"127.0.0.1:{rows['kafka'].port}"
    assert rows["kafka"].pid == stack.launcher.pid("kafka")
    assert all(row.memory_bytes > 100_000 and row.since for row in rows.values())


async def test_the_env_file_is_its_owners_alone_and_says_what_up_gave(stack: RunningStack) -> None:
    env = _folder(stack.launcher) / "env"
    assert env.stat().st_mode & 0o777 == 0o600
    lines = dict(line.split("=", 1) for line in env.read_text().splitlines())
    assert lines == stack.env
    assert {"SPINE_KAFKA", "SPINE_KAFKA_REPLICAS", "SPINE_DSN", "SPINE_OWNER_DSN"} <= lines.keys()
    assert "SPINE_KAFKA_CA" not in lines


async def test_all_of_it_listens_on_loopback_alone(stack: RunningStack) -> None:
    ours = _ports(stack.launcher)
    found = {(host, port) for host, port in _listening() if port in ours}
    assert {port for _, port in found} == ours
    assert {host.removeprefix("::ffff:") for host, _ in found} == {HOST}


async def test_no_password_stands_in_a_command_line_or_a_log(stack: RunningStack) -> None:
    folder = _folder(stack.launcher)
    secrets = [path.read_text() for path in (folder / "secrets").iterdir()]
    logs = [path.read_text(errors="replace") for path in folder.glob("*/log")]
    commands = [" ".join(psutil.Process(one.pid).cmdline()) for one in processes.marked(folder)]
    assert len(secrets) >= 5
    assert len(commands) >= 4
    assert [text for text in (*logs, *commands) if any(one in text for one in secrets)] == []


async def test_the_data_of_a_running_server_is_not_thrown_away(stack: RunningStack) -> None:
    with pytest.raises(StackFailed, match="kafka runs"):
        stack.launcher.wipe("kafka")


async def test_a_wiped_broker_starts_empty_on_the_same_port(stack: RunningStack) -> None:
    launcher, options = stack.launcher, kafka_options(stack.env)
    await asyncio.to_thread(launcher.kill, "kafka")
    await asyncio.to_thread(launcher.wipe, "kafka")
    await asyncio.to_thread(launcher.start, "kafka")
    assert await topics(options) == set()


async def test_a_second_stack_runs_beside_the_first(stack: RunningStack, broker: Launcher) -> None:
    assert broker.names() == ["mosquitto"]
    assert broker.pid("mosquitto") != stack.launcher.pid("mosquitto")
    await asyncio.to_thread(broker.down)
    assert broker.names() == []
    assert set(stack.launcher.names()) == set(KEEPERS)


async def test_after_down_nothing_runs_and_nothing_is_mounted(stack: RunningStack) -> None:
    launcher, folder = stack.launcher, _folder(stack.launcher)
    running = processes.family(list(processes.marked(folder)))
    await asyncio.to_thread(launcher.down)
    assert not any(process.is_alive() for process in running)
    assert list(processes.marked(folder)) == []
    assert not [mount for mount in psutil.disk_partitions(all=True) if str(folder) in str(mount)]
    assert not (folder / "env").exists()
    assert (folder / "timescale/data").exists()
    await asyncio.to_thread(launcher.down)


async def test_up_after_down_finds_data_ports_and_passwords_again(broker: Launcher) -> None:
    env = await asyncio.to_thread(broker.up, ["mosquitto"])
    held = await KEEPERS["mosquitto"](env, True)
    await asyncio.to_thread(broker.down)
    assert await asyncio.to_thread(broker.up, ["mosquitto"]) == env
    assert await KEEPERS["mosquitto"](env, False) == held


async def test_what_a_crashed_launcher_left_is_ended_by_the_next(broker: Launcher) -> None:
    left = Process.find(broker.pid("mosquitto"))
    (_folder(broker) / "state.json").unlink()
    await asyncio.to_thread(broker.up, ["mosquitto"])
    assert left is not None
    assert not left.is_alive()
    assert broker.names() == ["mosquitto"]


async def test_down_ends_even_what_was_never_noted(broker: Launcher) -> None:
    left = Process.find(broker.pid("mosquitto"))
    (_folder(broker) / "state.json").unlink()
    await asyncio.to_thread(broker.down)
    assert left is not None
    assert not left.is_alive()


async def test_a_server_whose_port_was_taken_says_so(broker: Launcher) -> None:
    broker.kill("mosquitto")
    (port,) = _ports(broker, "mosquitto")
    with (
        socket.create_server((HOST, port)),
        pytest.raises(StackFailed, match=rf"port {port} \(mqtt\) is taken by another program"),
    ):
        await asyncio.to_thread(broker.start, "mosquitto")


async def test_up_gives_a_server_whose_port_was_taken_another(broker: Launcher) -> None:
    await asyncio.to_thread(broker.down)
    before = _ports(broker, "mosquitto")
    with socket.create_server((HOST, *before)):
        env = await asyncio.to_thread(broker.up, ["mosquitto"])
    assert env["STACK_MQTT"] == f"{HOST}:{next(iter(_ports(broker, 'mosquitto')))}"
    assert _ports(broker, "mosquitto") != before


async def test_a_server_that_ends_by_itself_is_told_and_started_again(broker: Launcher) -> None:
    said: list[str] = []
    supervisor = Supervisor(StackCharges(broker, said.append), broker.names(), said.append)
    held = await KEEPERS["mosquitto"](broker.up(["mosquitto"]), True)
    await asyncio.to_thread(supervisor.look)
    assert said == []
    server = Process.find(broker.pid("mosquitto"))
    assert server is not None
    server.signal(signal.SIGKILL)
    until(lambda: broker.lost() == ["mosquitto"], "the end of the server is not seen")
    await asyncio.to_thread(supervisor.look)
    await asyncio.to_thread(supervisor.look)
    assert len(said) == 1
    assert said[0].startswith("mosquitto ended by itself for a reason its log may tell; it is")
    assert said[0].endswith(str(_folder(broker) / "mosquitto/log"))
    assert await KEEPERS["mosquitto"](broker.up(["mosquitto"]), False) == held


async def test_a_server_that_cannot_be_started_again_says_why(broker: Launcher) -> None:
    said: list[str] = []
    server = Process.find(broker.pid("mosquitto"))
    assert server is not None
    server.signal(signal.SIGKILL)
    until(lambda: broker.lost() == ["mosquitto"], "the end of the server is not seen")
    with socket.create_server((HOST, *_ports(broker, "mosquitto"))):
        await asyncio.to_thread(StackCharges(broker, said.append).start_again, "mosquitto")
    assert len(said) == 1
    assert said[0].startswith("mosquitto could not be started: mosquitto: its port")


async def test_a_server_that_was_taken_down_is_not_started_again(broker: Launcher) -> None:
    await asyncio.to_thread(broker.down)
    assert broker.lost() == []
    await asyncio.to_thread(broker.revive, "mosquitto")
    assert broker.names() == []


async def test_a_folder_keeps_to_its_profile(broker: Launcher) -> None:
    with pytest.raises(StackFailed, match="holds a dev stack"):
        Launcher(_folder(broker), "staging").up(["mosquitto"])
    with pytest.raises(StackFailed, match="a dev stack has no instance 'kafka1'"):
        broker.kill("kafka1")


def test_a_tied_stack_ends_with_a_killed_owner(tmp_path: Path) -> None:
    folder = tmp_path / "stack"
    with subprocess.Popen(
        [sys.executable, "-c", TIED, str(folder)],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as owner:
        assert owner.stdout is not None
        server = Process.find(int(owner.stdout.readline()))
        assert server is not None
        owner.send_signal(signal.SIGKILL)
        owner.wait()
    until(lambda: not server.is_alive(), "the server outlives its owner")
    Launcher(folder).reset()


def test_a_person_starts_looks_and_ends_by_command(tmp_path: Path) -> None:
    up = command("up", "--only", "mosquitto", home=tmp_path)
    folder = tmp_path / "spine/stack/dev"
    assert up.stdout.splitlines()[0] == "mosquitto: ready", up.stderr
    assert up.stdout.splitlines()[-1] == f"env: {folder / 'env'}"
    shown = command("status", home=tmp_path).stdout
    # What a command started goes on after it.
    assert any(line.split()[:3] == ["mosquitto", "2", "ready"] for line in shown.splitlines())
    down = command("down", home=tmp_path)
    assert down.stdout.splitlines()[0] == "mosquitto: down", down.stderr
    assert (folder / "mosquitto").exists()
    assert command("reset", home=tmp_path).returncode == 0
    assert not folder.exists()


def test_a_folder_that_is_no_stack_is_not_thrown_away(tmp_path: Path) -> None:
    (tmp_path / "letter").touch()
    with pytest.raises(StackFailed, match="holds no stack"):
        Launcher(tmp_path).reset()
    assert (tmp_path / "letter").exists()


def test_a_command_that_cannot_be_done_says_why(tmp_path: Path) -> None:
    refused = command("up", "--only", "oracle", home=tmp_path)
    assert refused.returncode == 1
    assert refused.stderr.startswith("stack: there is no service 'oracle': choose from kafka")


def _folder(launcher: Launcher) -> Path:
    return launcher._folder


def _ports(launcher: Launcher, *names: str) -> set[int]:
    ports = launcher._file.read().ports
    return {port for name in names or ports for port in ports[name].values()}


def _listening() -> set[tuple[str, int]]:
    found = psutil.net_connections("tcp")
    listening = [one.laddr for one in found if one.status == psutil.CONN_LISTEN]
    return {(address.ip, address.port) for address in listening if address}
