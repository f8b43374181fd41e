"""Reading a project's tables for people: with a time limit, and errors as problems."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from central.problems import ApiProblem
from central.storage.database import Connection, Pool, project_transaction


@contextlib.asynccontextmanager
async def reading(pool: Pool, project: str, limit_s: float) -> AsyncIterator[Connection]:
    """Open a read-only transaction of a project that may take `limit_s` seconds.

    Raises `ApiProblem` 503 `too_slow` at the limit, `DatabaseAway` where there is no database.
    """
    try:
        async with asyncio.timeout(limit_s), project_transaction(pool, project) as connection:
            await connection.execute("SET TRANSACTION READ ONLY")
            yield connection
    except TimeoutError as error:
        raise ApiProblem(
            503,
            "too_slow",
            f"The query took more than {limit_s:g} s. Ask for fewer points, a shorter time or "
            "wider buckets.",
            {"Retry-After": "5"},
        ) from error
