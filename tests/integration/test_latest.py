"""Latest values keep times to the microsecond, from the first year to the last."""

import numpy as np
import pytest

from central.storage.collapse import collapse
from central.storage.database import project_transaction
from central.storage.latest import keep_latest
from shared.clock import EARLIEST_US, LATEST_US, from_datetime
from shared.columns import Columns
from tests.servers.postgres import Database

pytest_plugins = ["tests.servers.postgres_fixtures"]
pytestmark = pytest.mark.integration

TIMES = [
    EARLIEST_US,
    -62_135_596_799_999_999,
    -1,
    0,
    1,
    1_700_000_000_123_457,
    LATEST_US - 1,
    LATEST_US,
]


async def test_times_come_back_to_the_microsecond(database: Database) -> None:
    await database.add_project("demo")
    points = list(range(1, len(TIMES) + 1))
    columns = Columns.of(points, TIMES, np.arange(len(TIMES)) / 10, [0] * len(TIMES))
    async with project_transaction(database.service, "demo") as connection:
        await keep_latest(connection, collapse([columns]), np.array([LATEST_US - 7]))
        rows = await connection.fetch("SELECT observed_at, received_at FROM latest ORDER BY 1")

    assert [from_datetime(row[0]) for row in rows] == TIMES
    assert {from_datetime(row[1]) for row in rows} == {LATEST_US - 7}
