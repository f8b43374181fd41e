"""The tutorial of the first meter works as it is written, in places of the test's own."""

import asyncio
import os
import re
import shutil
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from edge.settings import load
from protocols import templates
from tests.servers.central_process import Central, until
from tests.servers.ports import ports_in_a_row
from tests.servers.register_device import register_device

pytest_plugins = ["tests.servers.postgres_fixtures", "tests.servers.central_fixtures"]
pytestmark = pytest.mark.integration

REPOSITORY = Path(__file__).parents[2]
TUTORIAL = REPOSITORY / "docs" / "tutorials" / "first-meter.md"
INSTALL_S = 300.0


def blocks() -> list[str]:
    return re.findall(r"^```sh\n(.*?)^```$", TUTORIAL.read_text(), re.DOTALL | re.MULTILINE)


def words(template: str) -> dict[str, dict[int, int]]:
    tables = templates.built_in()[template].samples[0].registers
    return {
        table: {
            start + at: int(word, 16)
            for start, text in cells.items()
            for at, word in enumerate(text.split())
        }
        for table, cells in tables.items()
    }


class Shell:
    """Runs the tutorial's lines; `places` says what stands for its addresses and folders."""

    def __init__(self, folder: Path, places: dict[str, str]) -> None:
        self.folder = folder
        self.places = places
        self.environment = {"PATH": os.environ["PATH"], "HOME": str(folder)} | {
            key: value
            for key, value in os.environ.items()
            if key.startswith(("PIP_", "SSL_", "REQUESTS_")) or key.lower().endswith("_proxy")
        }

    def here(self, lines: str) -> str:
        for place, ours in self.places.items():
            lines = lines.replace(place, ours)
        return lines

    async def run(self, lines: str, where: Path) -> str:
        script = 'set -eu\nsudo() { "$@"; }\n' + self.here(lines)
        process = await asyncio.create_subprocess_exec(
            "bash",
            "-c",
            script,
            cwd=where,
            env=self.environment,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        try:
            async with asyncio.timeout(INSTALL_S):
                said, _ = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
        assert process.returncode == 0, said.decode()
        return said.decode()


@asynccontextmanager
async def service(unit: str, shell: Shell, home: Path) -> AsyncIterator[None]:
    """Do what systemd would: start the unit's command in its folder, and end it with SIGTERM."""
    command = re.findall(r"^ExecStart=(.*)$", unit, re.MULTILINE)[0].split()
    with (shell.folder / "gateway.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *command, cwd=home, env=shell.environment, stdout=log, stderr=log
        )
        try:
            yield
        finally:
            process.send_signal(signal.SIGTERM)
            async with asyncio.timeout(60):
                code = await process.wait()
    assert code == 0, (shell.folder / "gateway.log").read_text()


async def delivered(central: Central, key: str, value: float) -> None:
    async with central.client() as client:

        async def is_there() -> bool:
            answer = await client.get("/latest", params={"key": key})
            return [one["value"] for one in answer.json().get("readings", [])] == [value]

        await until(is_there, f"{key} has reached central")


async def test_the_tutorial_leads_to_a_meter_in_central(central: Central, tmp_path: Path) -> None:
    install, name, read, enrol, unit, look = blocks()
    source = tmp_path / "source"
    source.mkdir()
    for part in ("pyproject.toml", "README.md", "LICENSE", "requirements"):
        place = REPOSITORY / part
        if place.is_dir():
            shutil.copytree(place, source / part)
        elif place.exists():
            shutil.copy(place, source)
    for package in ("shared", "protocols", "edge", "central"):
        leave = shutil.ignore_patterns("__pycache__")
        shutil.copytree(REPOSITORY / package, source / package, ignore=leave)
    home = tmp_path / "home"
    home.mkdir()
    async with register_device(words("eastron_sdm630")) as port:
        ports = f"--ports {central.link_port} {central.enrol_port}"
        shell = Shell(
            tmp_path,
            {
                "/opt/spine": str(tmp_path / "spine"),
                "/var/lib/spine": str(home),
                "--central central.example": f"--central localhost {ports}",
                "--set host=192.0.2.10": f"--set host=127.0.0.1 --set port={port}",
                "--code CODE": f"--code {await central.code('plant-room')}",
            },
        )
        await shell.run(install, source)
        assert "eastron_sdm630" in await shell.run(name, home)
        # The page leaves the port of its health at 9100, which another gateway here may have.
        health = f"gateway: {{health: {{port: {ports_in_a_row(1)}}}}}"
        await shell.run(f"echo '{health}' >> gateway.yaml", home)
        said = await shell.run(read, home)
        assert re.search(r"main_meter/voltage_l1 +230\.5 V\n", said), said
        assert re.search(r"main_meter/current_l2 +bad: ", said), said
        assert "enrolled as gateway plant-room of project demo" in await shell.run(enrol, home)
        await shell.run(unit, home)
        assert load(home / "gateway.yaml").devices[0].name == "main_meter"
        async with service((home / "spine-edge.service").read_text(), shell, home):
            await delivered(central, "main_meter/voltage_l1", 230.5)
            said = await shell.run(look, home)
    assert "main_meter" in said
