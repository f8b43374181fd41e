"""The local profile's own Postgres: started, found again, recovered and stopped.

It listens on a Unix socket only, asks everybody for a password, and outlives a central that was
killed: the next one finds it running. Locks that the kernel drops with the process count its users,
so it is stopped by the last that leaves, and never are two servers started on one folder.
"""

import asyncio
import fcntl
import json
import os
import secrets
import threading
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self
from urllib.parse import quote

from central.storage.database import open_pool
from central.storage.postmaster import PostgresBroken, Postmaster, Seat
from central.storage.roles import DATABASE, OWNER, SERVICE, prepare_database, prepare_roles
from shared import logs

SUPERUSER: Final = "postgres"
WATCH_S: Final = 1.0
PREPARE_LOCK: Final = 0x5350_494E_4500
_log = logs.get("storage")


@dataclass(frozen=True, slots=True)
class _Secrets:
    superuser: str
    owner: str
    service: str

    @classmethod
    def keep(cls, path: Path) -> Self:
        """Read the passwords, or make and keep them: once, for the owner's eyes only."""
        if not path.exists():
            made = cls(*(secrets.token_urlsafe(24) for _ in range(3)))
            text = json.dumps(
                {"superuser": made.superuser, "owner": made.owner, "service": made.service}
            )
            _write_private(path, text)
        return cls(**json.loads(path.read_text(encoding="utf-8")))


@dataclass(frozen=True, slots=True)
class EmbeddedPostgres:
    """A Postgres that runs; made by `embedded_postgres`."""

    postmaster: Postmaster
    passwords: _Secrets
    left: threading.Event = field(default_factory=threading.Event)

    def service_dsn(self, database: str = DATABASE) -> str:
        """Where the service connects (a secret: it has the password)."""
        return self._dsn(SERVICE, self.passwords.service, database)

    def owner_dsn(self, database: str = DATABASE) -> str:
        """Where migrations and new projects connect (a secret)."""
        return self._dsn(OWNER, self.passwords.owner, database)

    def superuser_dsn(self, database: str = "postgres") -> str:
        """Where roles and databases are made (a secret)."""
        return self._dsn(SUPERUSER, self.passwords.superuser, database)

    async def watch(self) -> None:
        """Start the server again whenever it has died; runs until cancelled."""
        while True:
            await asyncio.sleep(WATCH_S)
            if not await asyncio.to_thread(self.postmaster.is_running):
                _log.error("postgres died; it is started again", folder=str(self.postmaster.data))
                try:
                    await asyncio.to_thread(self._start_again)
                except PostgresBroken as error:
                    _log.error("postgres does not start; tried again", problem=str(error))

    def _start_again(self) -> None:
        with _held(self.postmaster.data.parent / "start.lock"):
            # The thread may outlive the watch that was cancelled, and even the last user.
            if not self.left.is_set():
                self.postmaster.start()

    def _dsn(self, role: str, password: str, database: str) -> str:
        host = quote(str(self.postmaster.socket_folder), safe="")
        return f"postgresql://{role}:{quote(password, safe='')}@/{database}?host={host}"


@asynccontextmanager
async def embedded_postgres(
    folder: Path, settings: Mapping[str, str] | None = None
) -> AsyncIterator[EmbeddedPostgres]:
    """Run the Postgres of a folder (made where it is missing) for as long as the block lasts.

    Several processes may use one folder at once; the last to leave stops the server. The roles
    `spine_owner` and `spine_service` and the database `spine` stand when this gives it.
    `settings` are further server settings, for tests and benches. Raises `PostgresBroken`.
    """
    running = await asyncio.to_thread(_lay_out, folder, settings or {})
    users = _open_lock(running.postmaster.data.parent / "users.lock")
    try:
        await asyncio.to_thread(_enter, running, users)
        await _prepare(running)
        yield running
    finally:
        await asyncio.shield(asyncio.to_thread(_leave, running, users))


def _lay_out(folder: Path, settings: Mapping[str, str]) -> EmbeddedPostgres:
    folder = folder.expanduser().resolve()
    folder.mkdir(parents=True, exist_ok=True)
    postmaster = Postmaster(folder / "data", Seat.prepare(folder), settings)
    with _held(folder / "start.lock"):
        return EmbeddedPostgres(postmaster, _Secrets.keep(folder / "passwords.json"))


async def _prepare(running: EmbeddedPostgres) -> None:
    async with (
        open_pool(running.superuser_dsn(), "spine-prepare", size=1) as pool,
        pool.session("spine-prepare") as session,
    ):
        # One at a time; the lock ends with the session.
        await session.fetchval("SELECT pg_advisory_lock($1)", PREPARE_LOCK)
        await prepare_roles(pool, running.passwords.owner, running.passwords.service)
        await prepare_database(pool)


def _enter(running: EmbeddedPostgres, users: int) -> None:
    postmaster = running.postmaster
    with _held(postmaster.data.parent / "start.lock"):
        fcntl.flock(users, fcntl.LOCK_SH)
        if not postmaster.exists():
            postmaster.create(SUPERUSER, running.passwords.superuser)
        postmaster.start()


def _leave(running: EmbeddedPostgres, users: int) -> None:
    try:
        with _held(running.postmaster.data.parent / "start.lock"):
            running.left.set()
            if _is_last(users):
                running.postmaster.stop()
    finally:
        os.close(users)


def _is_last(users: int) -> bool:
    try:
        fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def _held(path: Path) -> Iterator[None]:
    descriptor = _open_lock(path)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _open_lock(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _write_private(path: Path, text: str) -> None:
    fresh = path.with_suffix(".new")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    fresh.rename(path)
