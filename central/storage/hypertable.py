"""Readings as a hypertable of TimescaleDB where the database has it; a plain table elsewhere.

Both are written and read by the same SQL. What differs is here: making the hypertable, and what its
chunks mean for a transaction of the writer.
"""

from collections.abc import Iterator
from datetime import timedelta
from typing import Final

import numpy as np
from numpy.typing import NDArray

from central.storage.database import Connection, DataRefused
from central.storage.roles import EXTENSION
from shared import logs
from shared.clock import MICROSECONDS

FIRST_WIDTH: Final = timedelta(days=1)
NARROWEST: Final = timedelta(hours=6)
WIDEST: Final = 128 * NARROWEST
"""Between these two `tune_chunks` chooses (migrations/project/0003_chunks.sql)."""
MAX_CHUNKS: Final = 300
"""Chunks that one transaction may write to: making one takes a millisecond and seven locks."""
MOVE_S: Final = 6 * 3600.0
_EXTENSION_SCHEMA: Final = """
SELECT quote_ident(nspname)
FROM pg_extension JOIN pg_namespace ON pg_namespace.oid = extnamespace WHERE extname = $1
"""
_IS_OPEN: Final = """
SELECT EXISTS (
    SELECT FROM pg_proc AS routine
    JOIN pg_depend ON classid = 'pg_proc'::regclass AND objid = routine.oid AND deptype = 'e'
    JOIN pg_extension ON refclassid = 'pg_extension'::regclass AND refobjid = pg_extension.oid
    WHERE extname = $1 AND provolatile = 'v'
    AND has_function_privilege('public', routine.oid, 'EXECUTE')
)
"""
_SPREAD: Final = """
SELECT
    count(DISTINCT date_bin($1, observed_at, '2000-01-01Z')),
    count(DISTINCT date_bin($2, observed_at, '2000-01-01Z'))
FROM readings
"""
# The chunks lie in the project's schema: who may not use that reaches none of them.
_MAKE: Final = """
SELECT FROM {schema}.create_hypertable(
    'readings', 'observed_at',
    chunk_time_interval => $1::interval,
    create_default_indexes => false,
    migrate_data => true,
    associated_schema_name => current_schema(),
    associated_table_prefix => 'readings'
)
"""
_log = logs.get("storage")


async def make_hypertable(owner: Connection) -> bool:
    """Make readings of the schema in the search path a hypertable; tell whether it is one.

    Without TimescaleDB it stays a plain table. Where the database gets TimescaleDB later, readings
    that are there are moved into chunks; who writes or reads them waits meanwhile. Where they lie
    in too many chunks for one transaction the table stays as it is, which is logged.
    """
    extension_schema = await owner.fetchval(_EXTENSION_SCHEMA, EXTENSION)
    if extension_schema is None:
        return False
    if await chunk_width(owner) is not None:
        return True
    if await owner.fetchval(_IS_OPEN, EXTENSION):
        _log.warning("every role may drop chunks: a superuser has to run storage/extension.sql")
    width = await _first_width(owner)
    if width is not None:
        await owner.execute(_MAKE.format(schema=extension_schema), width, timeout=MOVE_S)
    return width is not None


async def chunk_width(connection: Connection) -> timedelta | None:
    """Tell how much time a new chunk of a project's readings spans; None: a plain table."""
    width: timedelta | None = await connection.fetchval("SELECT chunk_width()")
    return width


async def refuse_scattered(connection: Connection, observed_at: NDArray[np.int64]) -> None:
    """Raise `DataRefused` for readings of a project that lie in too many chunks to be written."""
    if not is_scattered(observed_at, MAX_CHUNKS):
        return
    width = await chunk_width(connection)
    chunks = 0 if width is None else len(np.unique(observed_at // _us(width)))
    if chunks > MAX_CHUNKS:
        raise DataRefused(
            f"{len(observed_at)} readings lie in {chunks} chunks of time of {width}; "
            f"one batch may reach into {MAX_CHUNKS}"
        )


def is_scattered(observed_at: NDArray[np.int64], chunks: int) -> bool:
    """Tell whether readings may lie in more chunks than this, however narrow chunks are."""
    span = int(observed_at.max()) - int(observed_at.min())
    if span // _us(NARROWEST) < chunks - 1:
        return False
    return len(np.unique(observed_at // _us(NARROWEST))) > chunks


async def time_ranges(
    connection: Connection, observed_at: NDArray[np.int64]
) -> Iterator[tuple[int, int]]:
    """Give the first and last time of readings in each chunk they may lie in; plain: of all.

    A statement that joins readings with others must name such a range: then it looks into the
    chunks of the range, and not into all there are.
    """
    width = await chunk_width(connection)
    times = np.sort(observed_at)
    chunk = np.zeros_like(times) if width is None else times // _us(width)
    firsts = np.flatnonzero(np.diff(chunk, prepend=chunk[0] - 1))
    lasts = np.append(firsts[1:], len(times)) - 1
    return zip(times[firsts].tolist(), times[lasts].tolist(), strict=True)


async def _first_width(owner: Connection) -> timedelta | None:
    spread = await owner.fetchrow(_SPREAD, FIRST_WIDTH, WIDEST, timeout=MOVE_S)
    for width, chunks in zip((FIRST_WIDTH, WIDEST), spread, strict=True):
        if chunks <= MAX_CHUNKS:
            return width
    _log.warning(
        "the readings of a project are spread too far in time to become a hypertable",
        schema=await owner.fetchval("SELECT current_schema()"),
        chunks=spread[1],
        limit=MAX_CHUNKS,
    )
    return None


def _us(width: timedelta) -> int:
    return int(width.total_seconds() * MICROSECONDS)
