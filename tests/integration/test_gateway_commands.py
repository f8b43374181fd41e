"""What a person meets at the gateway's command line: mistakes, a busy port, a gateway at rest."""

import asyncio
import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import pytest

from edge.document import part_of
from edge.settings import load
from edge.twin import Twin
from shared import pki
from shared.clock import SystemClock
from tests.servers.disk import small_disk

REPOSITORY = Path(__file__).parents[2]
START_S = 30.0

GOOD = """
gateway: {{data: data, clock: trusted, health: {{port: {port}}}}}
central: {{link: "wss://127.0.0.1:1/link", enrol: "https://127.0.0.1:1"}}
outbox: {{commit_window_s: 0.05}}
devices:
  - name: meter
    driver: modbus
    interval_s: 0.1
    options: {{host: 127.0.0.1, port: 1, connect_timeout_s: 0.5}}
    points: [{{key: meter/power, source: {{table: input, register: 0, type: float32}}}}]
"""

WRONG = """
gateway: {clock: sundial}
central: {link: "http://central/link", enrol: "https://central:8082"}
outbox: {commit_windows_s: 1}
devices:
  - name: meter
    driver: modbus
    options: {host: 127.0.0.1, port: 99999}
    points:
      - {key: meter/power, source: {table: input, register: 0, type: float33}}
      - {key: "no spaces", source: {table: input, register: 2}}
  - name: meter
    driver: profinet
    options: {}
    points: [{key: a, source: {}}]
"""


def edge(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "edge", *arguments],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=START_S,
        check=False,
    )


@pytest.fixture
def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def config(tmp_path: Path, free_port: int) -> Path:
    path = tmp_path / "gateway.yaml"
    path.write_text(GOOD.format(port=free_port))
    return path


def enrolled(config: Path) -> None:
    """Give the gateway an identity that no central knows."""
    data = config.parent / "data"
    data.mkdir(exist_ok=True)
    root = pki.make_root("test")
    key, csr = pki.make_key_and_csr()
    (data / "identity.pem").write_bytes(key + pki.issue_gateway(root, csr, "demo", "gw1"))
    (data / "roots.pem").write_bytes(root.pem)


@contextmanager
def running(config: Path) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "edge", "run", "--config", str(config)]
    with subprocess.Popen(command, cwd=REPOSITORY, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def asked(port: int, what: str) -> dict[str, Any]:
    with urlopen(f"http://127.0.0.1:{port}/{what}", timeout=5) as answer:
        return dict(json.loads(answer.read()))


def wait_for(port: int, what: str) -> dict[str, Any]:
    end_s = time.monotonic() + START_S
    while time.monotonic() < end_s:
        try:
            return asked(port, what)
        except (URLError, ConnectionError):
            continue
    raise AssertionError(f"/{what} never answered")


def test_every_mistake_in_the_file_is_told_at_once_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "gateway.yaml"
    path.write_text(WRONG)
    done = edge("run", "--config", str(path))
    assert done.returncode == 2
    told = [line.removeprefix(f"{path}:") for line in done.stderr.splitlines()[1:]]
    assert {line.split(":")[0] + line.split(":")[1] for line in told} == {
        "2 gateway.clock",
        "3 central.link",
        "4 outbox.commit_windows_s",
        "8 devices.0.options.port",
        "10 devices.0.points.0.source.type",
        "11 devices.0.points.1.key",
        "12 devices.1.name",
        "13 devices.1.driver",
    }
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("devices: [", ":1:"),
        ("a: &x [1]\nb: *x\n", ":2: aliases"),
        ("- 1\n", ":1: must be a map"),
        ("a: 1\na: 2\n", ":2:"),
    ],
)
def test_a_file_that_is_not_settings_is_told_with_its_line(
    tmp_path: Path, text: str, problem: str
) -> None:
    path = tmp_path / "gateway.yaml"
    path.write_text(text)
    done = edge("check", "--config", str(path))
    assert done.returncode == 2
    assert problem in done.stderr


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    done = edge("check", "--config", str(tmp_path / "none.yaml"))
    assert done.returncode == 2
    assert "cannot be read: No such file" in done.stderr


def test_a_gateway_that_is_not_enrolled_says_how_to(config: Path) -> None:
    done = edge("run", "--config", str(config))
    assert done.returncode == 2
    assert "python -m edge enrol" in done.stderr


def test_a_code_that_is_not_complete_is_refused_before_anything_is_sent(config: Path) -> None:
    done = edge("enrol", "--config", str(config), "--code", "spine1-abc")
    assert done.returncode == 1
    assert "the code is not complete" in done.stderr


def test_a_busy_health_port_is_named(config: Path, free_port: int) -> None:
    enrolled(config)
    with socket.create_server(("127.0.0.1", free_port)):
        done = edge("run", "--config", str(config))
    assert done.returncode == 2
    assert f"127.0.0.1:{free_port} cannot be used" in done.stderr


def test_the_running_gateway_and_the_one_at_rest_tell_the_same_ledger(
    config: Path, free_port: int
) -> None:
    enrolled(config)
    with running(config) as gateway:
        wait_for(free_port, "ledger")
        while asked(free_port, "ledger")["produced"] == 0:
            assert gateway.poll() is None
        held = edge("ledger", "--config", str(config), "--json")
        gateway.send_signal(signal.SIGTERM)
        assert gateway.wait(START_S) == 0
    rest = json.loads(edge("ledger", "--config", str(config), "--json").stdout)
    assert held.returncode == 0
    assert rest["produced"] == rest["pending"] > 0
    assert rest["imbalance"] == 0


def test_status_names_each_device_and_its_problem(config: Path, free_port: int) -> None:
    enrolled(config)
    with running(config) as gateway:
        ready: dict[str, Any] = {}
        while not ready.get("ready"):
            assert gateway.poll() is None
            try:
                ready = wait_for(free_port, "readyz")
            except OSError:
                continue
        done = edge("status", "--config", str(config))
    assert "device    meter: down Modbus 127.0.0.1:1: cannot connect" in done.stdout
    assert "central   not connected: central cannot be reached" in done.stdout


def fill(ballast: Path) -> None:
    with suppress(OSError), ballast.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4_096))


def test_a_start_on_a_full_disk_waits_for_room(config: Path, free_port: int) -> None:
    with small_disk(config.parent / "data", megabytes=4) as disk:
        enrolled(config)
        fill(disk / "ballast")
        with running(config) as gateway:
            assert gateway.stderr is not None
            assert "its disk is full" in gateway.stderr.readline()
            (disk / "ballast").unlink()
            wait_for(free_port, "ledger")
            assert gateway.poll() is None


def test_a_second_gateway_on_the_same_data_is_refused(config: Path, free_port: int) -> None:
    enrolled(config)
    with running(config):
        wait_for(free_port, "ledger")
        other = config.with_name("other.yaml")
        other.write_text(GOOD.format(port=0))
        done = edge("run", "--config", str(other))
    assert done.returncode == 1
    assert "held by a running gateway" in done.stderr


def test_metrics_tell_readings_by_fate(config: Path, free_port: int) -> None:
    enrolled(config)
    with running(config):
        wait_for(free_port, "ledger")
        with urlopen(f"http://127.0.0.1:{free_port}/metrics", timeout=5) as answer:
            text = answer.read().decode()
    assert 'spine_edge_readings_total{fate="produced"}' in text
    assert "spine_edge_pending_readings" in text


async def _changed_on_site(config: Path) -> None:
    loaded = load(config)
    twin = await Twin.opened(loaded.data, part_of(loaded.raw), SystemClock())
    changed = json.loads(json.dumps(twin.current.document))
    changed["devices"][0]["interval_s"] = 0.2
    await twin.apply(changed, source="api", reason="slower")
    await twin.close()


def test_a_file_that_was_edited_after_a_change_on_site_is_a_proposal_that_is_told(
    config: Path, free_port: int
) -> None:
    enrolled(config)
    asyncio.run(_changed_on_site(config))
    config.write_text(config.read_text().replace("interval_s: 0.1", "interval_s: 5"))
    with running(config) as gateway:
        assert gateway.stderr is not None
        while "it waits as a proposal" not in gateway.stderr.readline():
            assert gateway.poll() is None
        wait_for(free_port, "ledger")
        told = asked(free_port, "status")["configuration"]
        done = edge("status", "--config", str(config))
    assert told["proposals"] == [{"number": 1, "source": "file"}]
    assert (told["revision"], told["source"]) == (2, "api")
    assert "config    revision 2 from api; proposals wait: 1 from file" in done.stdout
