"""The demo as a new user meets it: one command, a link, live values, Ctrl-C, and nothing left."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import HTTPCookieProcessor, Request, build_opener, urlopen

import pytest

from deploy.central.modules import PORTS
from tests.servers.ports import ports_in_a_row

REPOSITORY = Path(__file__).parents[2]
DEMO = (sys.executable, "-m", "deploy.local.demo")

STOP_S = 120

pytestmark = pytest.mark.integration


@dataclass(frozen=True)
class Started:
    """A demo that said it is ready."""

    process: subprocess.Popen[str]
    link: str
    env: dict[str, str]
    said: list[str]

    def latest(self, **query: str) -> list[dict[str, Any]]:
        asked = "&".join(f"{name}={value}" for name, value in query.items())
        project = self.env["SPINE_PROJECT"]
        url = f"{self.env['SPINE_URL']}/api/v1/projects/{project}/latest?{asked}"
        key = {"Authorization": f"Bearer {self.env['SPINE_API_KEY']}"}
        with urlopen(Request(url, headers=key), timeout=10) as answer:
            return list(json.loads(answer.read())["readings"])


@contextmanager
def demo(folder: Path, port: int, profile: str = "local") -> Iterator[Started]:
    command = [*DEMO, f"--profile={profile}", f"--folder={folder}", f"--port={port}"]
    process = subprocess.Popen(
        command,
        cwd=REPOSITORY,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield ready(process)
        process.send_signal(signal.SIGINT)
        assert process.wait(STOP_S) == 0
    finally:
        # Killed at once it would leave its own processes behind.
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            process.wait(STOP_S)
        process.communicate()


def ready(process: subprocess.Popen[str]) -> Started:
    assert process.stdout is not None
    said: list[str] = []
    for line in process.stdout:
        said.append(line.rstrip())
        if line.startswith("env: "):
            break
    else:
        pytest.fail("the demo did not become ready:\n" + "\n".join(said))
    link = next(line.removeprefix("ready: ") for line in said if line.startswith("ready: "))
    lines = Path(said[-1].removeprefix("env: ")).read_text().splitlines()
    return Started(process, link, dict(line.split("=", 1) for line in lines), said)


def processes_of(folder: Path) -> list[str]:
    """List what still runs for a demo's folder; Postgres names its data folder as well."""
    found = []
    for one in Path("/proc").iterdir():
        if one.name.isdigit() and int(one.name) != os.getpid():
            try:
                command = (one / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue
            if str(folder) in command:
                found.append(command)
    return found


@pytest.fixture
def port() -> int:
    return ports_in_a_row(PORTS)


def test_one_command_gives_a_live_building_and_leaves_nothing(tmp_path: Path, port: int) -> None:
    folder = tmp_path / "demo"
    with demo(folder, port) as first:
        for protocol in ("Modbus", "OPC UA", "MQTT"):
            assert f"  {protocol}: live" in first.said
        assert Path(first.env["SPINE_TRUTH"], "building.json").exists()
        (power,) = first.latest(key="meter1/power")
        assert power["value"] is not None
        assert first.link.startswith(f"http://127.0.0.1:{port}/login?token=")
        browser = build_opener(HTTPCookieProcessor())
        with browser.open(first.link, timeout=10) as page:
            assert "text/html" in page.headers["Content-Type"]
        with pytest.raises(HTTPError) as again:
            build_opener(HTTPCookieProcessor()).open(first.link, timeout=10)
        again.value.close()
        assert again.value.code in {401, 403}
        begun = power["observed_at"]
    assert processes_of(folder) == []

    with demo(folder, port) as second:
        url = f"{second.env['SPINE_URL']}/api/v1/projects/{second.env['SPINE_PROJECT']}"
        history = f"{url}/history?key=meter1/power&from={begun}&to=2100-01-01T00:00:00Z&limit=10"
        key = {"Authorization": f"Bearer {second.env['SPINE_API_KEY']}"}
        request = Request(history.replace("+00:00", "Z"), headers=key)
        with urlopen(request, timeout=10) as answer:
            assert begun[:19] in answer.read().decode()
    assert processes_of(folder) == []

    done = subprocess.run([*DEMO, "--folder", str(folder), "--reset"], cwd=REPOSITORY, check=False)
    assert done.returncode == 0
    assert not folder.exists()


def test_a_busy_port_is_named(tmp_path: Path, port: int) -> None:
    with socket.create_server(("127.0.0.1", port)):
        done = subprocess.run(
            [*DEMO, "--folder", str(tmp_path / "demo"), "--port", str(port)],
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    assert done.returncode == 1
    assert f"port {port} is in use" in done.stderr
    assert "PORT=" in done.stderr
    assert [path.name for path in (tmp_path / "demo").iterdir() if path.name != "lock"] == []
    assert processes_of(tmp_path / "demo") == []
