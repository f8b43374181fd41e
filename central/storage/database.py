"""Connections to Postgres: the one module that knows asyncpg; its errors become ours.

::

    SpineError
    +-- DatabaseAway       not reachable, stopping, full or overloaded: wait and try again
    |   +-- MemoryShort    no memory for the statement, or no room for its locks
    +-- DatabaseRefused    the statement cannot be (a right or a table is missing)
        +-- DataRefused    the data cannot be: trying again changes nothing
            +-- DuplicateKey   a unique key is there already
    +-- TransactionClash   two transactions crossed (deadlock, serialization): try again at once
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final

import asyncpg

from shared.errors import SpineError

Connection = Any
"""A connection inside a transaction: `fetch`, `fetchrow`, `fetchval`, `execute`, `executemany`."""

ACQUIRE_S: Final = 10.0
COMMAND_S: Final = 60.0
CONNECT_S: Final = 10.0
SILENT_S: Final = 30.0
"""How long a client may be silent within a transaction until the server undoes it.

A process that hangs would else keep its locks, and those who wait for them, for ever.
"""
_DEAD_PEER: Final = {
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
}
"""A machine that lost its power does not say so: the server asks, and lets go of its locks."""


class DatabaseAway(SpineError):
    """The database cannot be reached or cannot work now; nothing is lost by waiting."""


class MemoryShort(DatabaseAway):
    """The database had no memory for a statement or its locks: too much at once, by whomever."""


class DatabaseRefused(SpineError):
    """The database refuses a statement or its data; repeating it changes nothing."""


class DataRefused(DatabaseRefused):
    """The database refuses the data itself: out of range, not storable, against a constraint."""


class DuplicateKey(DataRefused):
    """A row with this unique key is there already."""


class TransactionClash(SpineError):
    """The transaction was given up because of another one; it can be repeated at once."""


_DATA: Final = (
    asyncpg.DataError,
    asyncpg.IntegrityConstraintViolationError,
    asyncpg.ProgramLimitExceededError,
)
_AWAY: Final = (
    OSError,
    TimeoutError,
    asyncpg.InterfaceError,
    asyncpg.PostgresConnectionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.OperatorInterventionError,
    asyncpg.PostgresSystemError,
    asyncpg.InternalClientError,
    asyncpg.LockNotAvailableError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.IdleInTransactionSessionTimeoutError,
)


@contextmanager
def our_errors() -> Iterator[None]:
    """Turn asyncpg's errors into ours, with the library's as the cause.

    Network errors and timeouts of the caller's own code inside it count as the database's.
    """
    try:
        yield
    except asyncpg.TransactionRollbackError as error:
        raise TransactionClash(str(error)) from error
    except asyncpg.UniqueViolationError as error:
        raise DuplicateKey(str(error)) from error
    except asyncpg.OutOfMemoryError as error:
        raise MemoryShort(str(error)) from error
    except _AWAY as error:
        text = f"{type(error).__name__}: {error}"
        # asyncpg tells of an argument it cannot encode by an InterfaceError that is a ValueError.
        raise (DataRefused if isinstance(error, ValueError) else DatabaseAway)(text) from error
    except _DATA as error:
        raise DataRefused(f"{type(error).__name__}: {error}") from error
    except asyncpg.PostgresError as error:
        raise DatabaseRefused(f"{type(error).__name__}: {error}") from error


class Pool:
    """A bounded set of connections to one database as one role; made by `open_pool`."""

    def __init__(self, dsn: str, inner: Any) -> None:
        self._dsn = dsn
        self._inner = inner

    @asynccontextmanager
    async def transaction(self, *, is_frozen: bool = False) -> AsyncGenerator[Connection]:
        """Give a connection inside a transaction: committed on leaving, rolled back on an error.

        `is_frozen`: read only, and all its statements see the same moment. Waits at most 10 s for a
        free connection, then raises `DatabaseAway`.
        """
        isolation = "repeatable_read" if is_frozen else None
        with our_errors():
            async with (
                self._inner.acquire(timeout=ACQUIRE_S) as connection,
                connection.transaction(isolation=isolation, readonly=is_frozen),
            ):
                yield connection

    async def fetchval(self, query: str, *arguments: object) -> Any:
        """Ask for one value in a transaction of its own: one round trip."""
        with our_errors():
            return await self._inner.fetchval(query, *arguments)

    @asynccontextmanager
    async def session(self, name: str, silent_s: float = 0.0) -> AsyncGenerator[Connection]:
        """Open a connection of its own beside the pool, for what lives as long as a session.

        The server ends it, and with it its locks, when nothing is asked for `silent_s` (0: never).
        """
        settings = {**_DEAD_PEER, "idle_session_timeout": _ms(silent_s)}
        with our_errors():
            connection = await asyncpg.connect(
                self._dsn, timeout=CONNECT_S, server_settings={"application_name": name, **settings}
            )
            try:
                yield connection
            finally:
                # A connection that is gone already cannot be closed politely.
                await _close(connection)

    async def ping(self) -> None:
        """Ask the database for one row; raises `DatabaseAway`."""
        async with self.transaction() as connection:
            await connection.fetchval("SELECT 1")


@asynccontextmanager
async def open_pool(dsn: str, name: str = "spine", size: int = 8) -> AsyncIterator[Pool]:
    """Make a pool of at most `size` connections; it connects when first used, not here.

    The server undoes a transaction in which nothing is asked for 30 s.
    """
    settings = {**_DEAD_PEER, "idle_in_transaction_session_timeout": _ms(SILENT_S)}
    inner = asyncpg.create_pool(
        dsn,
        min_size=0,
        max_size=size,
        timeout=CONNECT_S,
        command_timeout=COMMAND_S,
        max_inactive_connection_lifetime=300.0,
        server_settings={"application_name": name, **settings},
        reset=_keep,
    )
    with our_errors():
        await inner
    try:
        yield Pool(dsn, inner)
    finally:
        await _close_pool(inner)


@asynccontextmanager
async def platform_transaction(pool: Pool) -> AsyncGenerator[Connection]:
    """Open a transaction that sees the platform tables of every project."""
    async with pool.transaction() as connection:
        await connection.fetchval("SELECT set_config('spine.platform', 'on', true)")
        yield connection


@asynccontextmanager
async def catalogue_transaction(pool: Pool, project_id: int) -> AsyncGenerator[Connection]:
    """Open a transaction that sees one project's rows of the platform tables."""
    async with pool.transaction() as connection:
        await connection.fetchval(
            "SELECT set_config('spine.project_id', $1, true)", str(project_id)
        )
        yield connection


@asynccontextmanager
async def project_transaction(
    pool: Pool, slug: str, *, is_frozen: bool = False
) -> AsyncGenerator[Connection]:
    """Open a transaction as a project's role, in its schema: it reaches nothing else."""
    async with pool.transaction(is_frozen=is_frozen) as connection:
        schema = schema_of(slug)
        await connection.fetchval(
            "SELECT set_config('search_path', $1, true), set_config('role', $1, true)", schema
        )
        yield connection


@asynccontextmanager
async def savepoint(connection: Connection) -> AsyncGenerator[None]:
    """Open a transaction inside one: an error undoes this part only."""
    with our_errors():
        async with connection.transaction():
            yield


async def copy_rows(
    connection: Connection, table: str, columns: Sequence[str], rows: bytearray
) -> None:
    """COPY rows that are in the binary format already into a table of the search path."""
    with our_errors():
        await connection.copy_to_table(table, columns=columns, source=rows, format="binary")


def schema_of(slug: str) -> str:
    """Name the schema of a project, which is also the name of its role."""
    return f"p_{slug}"


def _ms(seconds: float) -> str:
    return str(round(seconds * 1_000))


async def _keep(_connection: Any) -> None:
    """Reset nothing: transactions only use SET LOCAL, so there is nothing to undo."""


async def _close(connection: Any) -> None:
    try:
        await connection.close(timeout=2.0)
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
        connection.terminate()


async def _close_pool(inner: Any) -> None:
    try:
        async with asyncio.timeout(5.0):
            await inner.close()
    except TimeoutError:
        inner.terminate()
