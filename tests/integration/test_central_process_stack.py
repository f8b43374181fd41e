"""Six processes on Kafka, the registry and TimescaleDB, started and looked after by `make up`."""

import asyncio
import contextlib
import json
import os
import re
import shlex
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx2
import psutil
import pytest

from central.modules import MODULES
from deploy.central.modules import PORTS
from shared.link import NeedPointSet, Receipt
from tests.servers.central_process import until
from tests.servers.link_peer import (
    enrol,
    link_peer,
    now_us,
    point_set_frame,
    points,
    readings_batch,
)
from tests.servers.ports import ports_in_a_row
from tests.servers.stack import RunningStack

pytest_plugins = ["tests.servers.stack_fixtures"]
pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]
DEADLINE_S = 120.0
SET = points("ahu1/supply_temp")
NEEDS = {
    "ingress": {"database", "log", "schemas", "link"},
    "messaging": {"database", "log", "schemas", "topics"},
    "storage": {"database", "log", "schemas"},
    "analytics": {"database", "log", "schemas", "flow"},
    "egress": {"database"},
    "application": {"database", "egress"},
}


@dataclass
class Up:
    """A running `make up`: what it said, and where its modules answer."""

    process: asyncio.subprocess.Process
    port: int
    folder: Path
    said: list[str] = field(default_factory=list)

    async def read_until(self, pattern: str) -> re.Match[str]:
        """Read its lines until one matches."""
        assert self.process.stdout is not None
        async with asyncio.timeout(DEADLINE_S):
            while line := (await self.process.stdout.readline()).decode():
                self.said.append(line.rstrip())
                if found := re.search(pattern, line):
                    return found
        pytest.fail(f"no {pattern!r} in\n" + "\n".join(self.said))

    def urls(self) -> dict[str, str]:
        rows = (re.match(r"(\w+) +(http://\S+) +\d+ ", line) for line in self.said)
        return {row[1]: row[2] for row in rows if row}

    def pid(self, module: str) -> int:
        return int(json.loads((self.folder / "running.json").read_text())[module])

    def env(self) -> dict[str, str]:
        lines = shlex.split((self.folder / "env").read_text())
        return dict(line.split("=", 1) for line in lines)

    async def command(self, *arguments: str) -> str:
        """Do one act of the administrator with the settings that were written for a person."""
        done = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "central",
            *arguments,
            cwd=ROOT,
            env={**os.environ, **self.env()},
            stdout=asyncio.subprocess.PIPE,
        )
        out, _ = await done.communicate()
        assert done.returncode == 0
        return out.decode().strip()


@asynccontextmanager
async def up(folder: Path, profile: str, settings: Mapping[str, str]) -> AsyncIterator[Up]:
    """Run `make up` until the block ends, then stop it as a person does; nothing may be left."""
    port = ports_in_a_row(PORTS)
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "deploy.central.up",
        f"--profile={profile}",
        f"--port={port}",
        f"--folder={folder}",
        cwd=ROOT,
        env={**os.environ, **settings},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    running = Up(process, port, folder)
    try:
        await running.read_until("^ready: ")
        yield running
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGINT)
        async with asyncio.timeout(DEADLINE_S):
            out, _ = await process.communicate()
        running.said += out.decode().splitlines()
    assert process.returncode == 0, running.said
    assert processes_of(folder) == []


def processes_of(folder: Path) -> list[str]:
    found = []
    for one in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            command = " ".join(one.cmdline())
            if str(folder) in command and one.pid != os.getpid():
                found.append(command)
    return found


async def deliver(running: Up, value: float) -> None:
    """Enrol a gateway and send one batch until it is settled."""
    await running.command("setup", "--project=demo")
    code = await running.command("enrol", "--project=demo", "--gateway=gw1")
    gateway = await enrol(running.port + 2, code, running.folder / "gw1")
    async with link_peer(running.port + 1, gateway.context()) as peer:
        await peer.hello()
        await peer.send(readings_batch(SET, 0, [(0, now_us(), value, 0)]))
        await peer.await_frame(NeedPointSet)
        await peer.send(point_set_frame(SET))
        while not (await peer.await_frame(Receipt)).settled:
            pass


async def latest(client: httpx2.AsyncClient) -> list[float]:
    with contextlib.suppress(httpx2.TransportError):
        answer = await client.get("/api/v1/projects/demo/latest")
        if answer.status_code == 200:
            return [each["value"] for each in answer.json()["readings"]]
    return []


async def test_six_processes_work_together_on_the_real_stack(
    tmp_path: Path,
    kafka_stack: RunningStack,
    registry_stack: RunningStack,
    timescale_stack: RunningStack,
) -> None:
    env = {**kafka_stack.env, **registry_stack.env, **timescale_stack.env}
    settings = {name: text for name, text in env.items() if name.startswith("SPINE_")}
    assert {"SPINE_KAFKA", "SPINE_REGISTRY", "SPINE_DSN"} <= set(settings)
    async with up(tmp_path / "up", "given", settings) as running:
        assert set(running.urls()) == set(MODULES)
        assert (running.folder / "env").stat().st_mode & 0o077 == 0
        await deliver(running, 21.5)
        key = await running.command("key", "--project=demo", "--name=test")
        headers = {"Authorization": f"Bearer {key}"}
        door = f"http://127.0.0.1:{running.port}"
        async with httpx2.AsyncClient(base_url=door, headers=headers) as client:
            assert await latest(client) == [21.5]
            await _check_health(running, client)
            await _check_flow(running, client)
            await _check_restart(running, client)
        said = "\n".join(running.said)
        assert settings["SPINE_DSN"] not in said
    for name in MODULES:
        assert "Traceback" not in (tmp_path / "up" / f"{name}.log").read_text()


async def _check_health(running: Up, client: httpx2.AsyncClient) -> None:
    for module, url in running.urls().items():
        ready = (await client.get(f"{url}/readyz")).json()
        assert ready["ready"], (module, ready)
        assert set(ready["dependencies"]) == NEEDS[module]


async def _check_flow(running: Up, client: httpx2.AsyncClient) -> None:
    wanted = 'spine_analytics_readings_total{project="demo",quality="good"} 1.0'

    async def is_counted() -> bool:
        return wanted in (await client.get(f"{running.urls()['analytics']}/metrics")).text

    await until(is_counted, "analytics has counted the reading", DEADLINE_S)


async def _check_restart(running: Up, client: httpx2.AsyncClient) -> None:
    before = running.pid("egress")
    os.kill(before, signal.SIGKILL)
    await running.read_until("^egress ended by itself by signal 9; it is started again")

    async def is_back() -> bool:
        return running.pid("egress") != before and await latest(client) == [21.5]

    await until(is_back, "egress answers again", DEADLINE_S)


async def test_what_a_machine_lacks_is_told_with_what_to_do_instead(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "deploy.central.up",
        "--profile=dev",
        f"--folder={tmp_path / 'up'}",
        f"--stack={tmp_path / 'stack'}",
        cwd=ROOT,
        env={"PATH": "/nowhere", "HOME": str(tmp_path), "LANG": "C.UTF-8"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    out, _ = await process.communicate()
    text = out.decode()
    assert process.returncode == 1, text
    assert "this machine cannot run all servers of the profile:" in text
    assert "make demo" in text
    assert "Traceback" not in text


async def test_the_local_profile_is_one_process_with_its_own_database(tmp_path: Path) -> None:
    clean = {name: "" for name in os.environ if name.startswith("SPINE_")}
    async with up(tmp_path / "up", "local", clean) as running:
        assert set(running.urls()) == {"central"}
        await running.command("setup", "--project=demo")
        url = f"http://127.0.0.1:{running.port}/readyz"
        async with httpx2.AsyncClient() as client:
            ready = (await client.get(url)).json()
    assert ready["ready"]
    assert {"database", "log", "link", "topics", "flow"} <= set(ready["dependencies"])
