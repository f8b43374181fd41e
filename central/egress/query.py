"""Reading a project's tables for people: with a time limit, and errors as problems."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from central.problems import ApiProblem
from central.storage.database import Connection, DataRefused, Pool, project_transaction


@contextlib.asynccontextmanager
async def reading(pool: Pool, project: str, limit_s: float) -> AsyncIterator[Connection]:
    """Open a read-only transaction of a project that may take `limit_s` seconds.

    Raises `ApiProblem` 503 `too_slow` at the limit, 422 `out_of_range` where sums of stored values
    leave the range of numbers; `DatabaseAway` where there is no database.
    """
    try:
        async with (
            asyncio.timeout(limit_s),
            project_transaction(pool, project, is_frozen=True) as connection,
        ):
            yield connection
    except TimeoutError as error:
        raise ApiProblem(
            503,
            "too_slow",
            f"The query took more than {limit_s:g} s. Ask for fewer points, a shorter time or "
            "wider buckets.",
            {"Retry-After": "5"},
        ) from error
    except DataRefused as error:
        detail = "The values are too large to be added up. Ask for raw readings."
        raise ApiProblem(422, "out_of_range", detail) from error
