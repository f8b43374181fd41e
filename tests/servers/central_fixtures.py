"""The fixture `central`: a running central with a project; uses the fixtures of Postgres."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.servers.central_process import Central, running_central
from tests.servers.postgres import Database


@pytest.fixture
async def central(database: Database, tmp_path: Path) -> AsyncIterator[Central]:
    async with running_central(database, tmp_path) as running:
        yield running
