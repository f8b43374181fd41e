"""A process of central with a registry whose schemas do not fit: it ends, and says why."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from central.messaging import SchemaRefused
from central.messaging.registry import FOLDER
from central.messaging.registry_client import RegistryClient
from central.process import running
from tests.contract.registry_rig import SmallRegistry
from tests.servers.central_process import settings_for
from tests.servers.postgres import Database

pytest_plugins = ["tests.servers.postgres_fixtures"]
pytestmark = pytest.mark.integration
REPOSITORY = Path(__file__).parents[2]
DEADLINE_S = 60
SUBJECT = "spine.ReadingBatch"
REASON = rf"version 1 of {SUBJECT} in the registry.*value\.epoch: string cannot be read as long"


@pytest.fixture
async def unfit() -> AsyncIterator[SmallRegistry]:
    """A registry that holds a version of a subject of ours that ours cannot read."""
    small = SmallRegistry()
    await small.up()
    document = json.loads((FOLDER / "reading_batch.1.avsc").read_text(encoding="utf-8"))
    document["fields"][1]["type"] = "string"
    async with RegistryClient(small.url) as client:
        await client.register(SUBJECT, json.dumps(document))
    yield small
    await small.down()


async def test_a_refusal_at_the_start_ends_the_process_with_its_text(
    unfit: SmallRegistry, tmp_path: Path
) -> None:
    environment = {**os.environ, "SPINE_REGISTRY": unfit.url, "SPINE_LINK_PORT": "0"}
    environment |= {"SPINE_ENROL_PORT": "0", "SPINE_HEALTH_PORT": "0"}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "central", "ingress", "--data", str(tmp_path)),
        cwd=REPOSITORY,
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(DEADLINE_S):
            _, said = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()

    assert process.returncode == 1
    last = said.decode().strip().splitlines()[-1]
    assert last.startswith(f"version 1 of {SUBJECT} in the registry at {unfit.url}")
    assert "value.epoch: string cannot be read as long" in last
    assert "Traceback" not in said.decode()


async def test_a_refusal_that_comes_later_ends_the_running_process(
    unfit: SmallRegistry, database: Database, tmp_path: Path
) -> None:
    await unfit.down()
    settings = settings_for(database, tmp_path, registry=unfit.url)

    async def stay() -> None:
        async with asyncio.timeout(DEADLINE_S), running(settings, ["ingress", "storage"]):
            await unfit.up()
            await asyncio.Event().wait()

    with pytest.raises(SchemaRefused, match=REASON):
        await stay()
