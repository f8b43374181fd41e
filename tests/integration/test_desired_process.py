"""A whole gateway that is killed while a configuration of central is on trial returns by itself."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from edge.agreement import NOTED_S
from edge.config_store import FILE_NAME, ConfigStore
from shared import link
from tests.integration.test_gateway_commands import REPOSITORY, enrolled
from tests.integration.twin_kit import until
from tests.servers.link_central import LinkCentral, desired, link_central

LEFT_S = 2.0
"""What a second start has left to wait; a trial takes its first portion as it begins."""


def meter(name: str, port: int) -> dict[str, Any]:
    """Describe a device that is not there."""
    return {
        "name": name,
        "driver": "modbus",
        "interval_s": 0.2,
        "options": {"host": "127.0.0.1", "port": port, "connect_timeout_s": 0.5},
        "points": [{"key": f"{name}/power", "source": {"register": 0, "type": "float32"}}],
    }


def configured(folder: Path, central: LinkCentral) -> Path:
    config = folder / "gateway.yaml"
    own = {"data": "data", "clock": "trusted", "health": {"port": 0}}
    there = {
        "link": central.url,
        "enrol": "https://127.0.0.1:1",
        "revert_after_s": NOTED_S + LEFT_S,
    }
    # JSON is YAML.
    config.write_text(json.dumps({"gateway": own, "central": there, "devices": [meter("a", 1)]}))
    enrolled(config)
    (folder / "data" / "roots.pem").write_bytes(central.roots)
    return config


@asynccontextmanager
async def gateway(config: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "edge",
        "run",
        "--config",
        str(config),
        cwd=REPOSITORY,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def in_force(folder: Path) -> tuple[str, list[str], float | None]:
    """Look into the database of the gateway: source, devices, what is left of a trial."""
    with ConfigStore(folder / "data" / FILE_NAME) as store:
        current = store.current()
        assert current is not None
        names = [one["name"] for one in current.document["devices"]]
        trial = store.fact("trial")
        return current.source, names, trial[2] if trial else None


async def looked(folder: Path, wanted: tuple[str, list[str], float | None]) -> None:
    """Wait until the database of the gateway says so."""
    async with asyncio.timeout(60):
        while await asyncio.to_thread(in_force, folder) != wanted:  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.1)


def told(central: LinkCentral, state: str) -> list[link.Reported]:
    return [
        one for one in central.of(link.Reported) if one.sections["configuration"]["state"] == state
    ]


async def test_a_kill_in_the_midst_of_a_trial_does_not_keep_the_configuration(
    tmp_path: Path,
) -> None:
    async with link_central(tmp_path) as central:
        config = await asyncio.to_thread(configured, tmp_path, central)
        async with gateway(config) as process:
            await until(lambda: told(central, "none"))
            base = told(central, "none")[0].sections["configuration"]["hash"]
            await central.want(desired(1, {"devices": [meter("b", 2)]}, base))
            await until(lambda: told(central, "applied"))
            central.is_away = True
            central.cut()
            process.kill()
            await process.wait()
        assert await asyncio.to_thread(in_force, tmp_path) == ("central", ["b"], LEFT_S)
        async with gateway(config) as process:
            await looked(tmp_path, ("revert", ["a"], None))
            assert process.returncode is None
            # The link comes back: central is told, and what it repeats is not done again.
            central.seen, central.is_away = [], False
            await until(lambda: told(central, "failed"))
        text = told(central, "failed")[0].sections["configuration"]["problems"][0]["text"]
        assert "taken back" in text
        assert (await asyncio.to_thread(in_force, tmp_path))[1] == ["a"]
