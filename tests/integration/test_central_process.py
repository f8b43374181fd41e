"""Central as a process: its command line, its stop, its modules alone and together."""

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx2
import psutil
import pytest

from central import admin
from central.modules import MODULES
from central.process import running
from central.storage.database import project_transaction
from shared.link import NeedPointSet, Receipt
from tests.servers.central_process import settings_for, until
from tests.servers.link_peer import (
    enrol,
    link_peer,
    now_us,
    point_set_frame,
    points,
    readings_batch,
)
from tests.servers.postgres import Database

pytest_plugins = ["tests.servers.postgres_fixtures"]
pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]
SET = points("ahu1/supply_temp")


@pytest.fixture
def folder() -> Iterator[Path]:
    # Not under pytest's own folder: the embedded Postgres may run as a user of its own.
    with TemporaryDirectory(prefix="spine-central-") as made:
        yield Path(made)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def start(*arguments: str, **variables: str) -> asyncio.subprocess.Process:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("SPINE_")}
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "central",
        *arguments,
        cwd=ROOT,
        env={**clean, **variables},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def ended(process: asyncio.subprocess.Process) -> tuple[int, str, str]:
    async with asyncio.timeout(60):
        out, err = await process.communicate()
    return process.returncode or 0, out.decode(), err.decode()


@contextlib.asynccontextmanager
async def central_all(folder: Path, port: int) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await start(
        "all",
        f"--data={folder}",
        f"--port={port}",
        "--link-port=0",
        "--enrol-port=0",
    )
    try:
        async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:

            async def is_ready() -> bool:
                assert process.returncode is None, await process.communicate()
                with contextlib.suppress(httpx2.TransportError):
                    return (await client.get("/readyz")).status_code == 200
                return False

            await until(is_ready, "central is ready", 60)
        yield process
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
            await ended(process)


def postgres_of(folder: Path) -> list[psutil.Process]:
    found = []
    for each in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if "postgres" in each.name() and any(str(folder) in part for part in each.cmdline()):
                found.append(each)
    return found


async def test_it_starts_survives_a_kill_and_stops_with_nothing_left(folder: Path) -> None:
    said = await ended(await start("setup", "--project=demo", f"--data={folder}"))
    assert said[:2] == (0, "project demo, site main\n")
    port = free_port()
    async with central_all(folder, port) as process:
        assert postgres_of(folder)
        process.kill()
        await ended(process)
    async with central_all(folder, port) as process:
        code, token, note = await ended(
            await start("login", f"--data={folder}", SPINE_PORT=str(port))
        )
        assert code == 0
        assert f"http://127.0.0.1:{port}/login?token={token.strip()}" in note
        async with httpx2.AsyncClient(follow_redirects=True) as client:
            page = await client.get(f"http://127.0.0.1:{port}/login?token={token.strip()}")
            assert page.status_code == 200
            assert "<title>SPINE</title>" in page.text
        process.send_signal(signal.SIGTERM)
        code, _, err = await ended(process)
    assert code == 0, err
    assert token.strip() not in err
    assert postgres_of(folder) == []


async def test_a_busy_port_is_told_with_its_setting_before_anything_starts(folder: Path) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        process = await start(
            "all", f"--data={folder}", f"--port={port}", "--link-port=0", "--enrol-port=0"
        )
        code, _, err = await ended(process)
    assert code == 2
    assert f"127.0.0.1:{port} is in use" in err
    assert "SPINE_PORT" in err
    assert "Traceback" not in err
    assert os.listdir(folder) == []  # noqa: PTH208  # pathlib would block just the same


async def test_every_wrong_setting_is_told_at_once_and_no_value_is_repeated(folder: Path) -> None:
    process = await start(
        "all",
        f"--data={folder}",
        SPINE_LINK_PORT="abc-secret",
        SPINE_RECEIPT_POLL_S="-1",
        SPINE_LOG_LEVEL="loud",
    )
    code, _, err = await ended(process)
    assert code == 2
    for name in ("SPINE_LINK_PORT", "SPINE_RECEIPT_POLL_S", "SPINE_LOG_LEVEL"):
        assert name in err
    assert "abc-secret" not in err
    assert "Traceback" not in err
    assert os.listdir(folder) == []  # noqa: PTH208  # pathlib would block just the same


async def test_an_act_on_a_project_that_is_not_there_says_what_to_do(folder: Path) -> None:
    code, out, err = await ended(
        await start("key", "--project=nope", "--name=x", f"--data={folder}")
    )
    assert (code, out) == (1, "")
    assert "python -m central setup --project nope" in err


async def test_modules_that_run_alone_work_together(database: Database, tmp_path: Path) -> None:
    settings = settings_for(database, tmp_path)
    await admin.setup(settings, "demo", "main")
    async with contextlib.AsyncExitStack() as stack:
        alone = {
            name: await stack.enter_async_context(running(settings, [name])) for name in MODULES
        }
        doors = {name: set(each.ports) for name, each in alone.items()}
        assert doors == {
            "ingress": {"link", "enrol", "health"},
            "messaging": {"health"},
            "storage": {"health"},
            "analytics": {"health"},
            "egress": {"human"},
            "application": {"human"},
        }
        code = (await admin.enrol(settings, "demo", "main", "gw1")).answer
        gateway = await enrol(alone["ingress"].ports["enrol"], code, tmp_path / "gw1")
        async with link_peer(alone["ingress"].ports["link"], gateway.context()) as peer:
            await peer.hello()
            await peer.send(readings_batch(SET, 0, [(0, now_us(), 21.5, 0)]))
            await peer.await_frame(NeedPointSet)
            await peer.send(point_set_frame(SET))
            while not (await peer.await_frame(Receipt)).settled:
                pass
        key = (await admin.key(settings, "demo", "test")).answer
        human = f"http://127.0.0.1:{alone['egress'].ports['human']}"
        headers = {"Authorization": f"Bearer {key}"}
        async with httpx2.AsyncClient(headers=headers) as client:
            latest = await client.get(f"{human}/api/v1/projects/demo/latest")
            assert [each["value"] for each in latest.json()["readings"]] == [21.5]
            for each in alone.values():
                port = each.ports.get("health", each.ports.get("human"))
                assert (await client.get(f"http://127.0.0.1:{port}/readyz")).status_code == 200
                metrics = (await client.get(f"http://127.0.0.1:{port}/metrics")).text
                assert "process_resident_memory_bytes" in metrics
    async with project_transaction(database.service, "demo") as connection:
        assert await connection.fetchval("SELECT count(*) FROM readings") == 1
