"""TimescaleDB: Postgres with hypertables, its roles, and the database `spine`."""

import asyncio
import subprocess
from collections.abc import Mapping, Sequence
from signal import SIGINT
from typing import Final
from urllib.parse import quote

from central.storage.database import open_pool
from central.storage.postmaster import Postmaster, Seat
from central.storage.roles import (
    DATABASE,
    OWNER,
    SERVICE,
    prepare_database,
    prepare_extension,
    prepare_roles,
)
from deploy.central.native import timescale_root, versions
from deploy.central.native.cache import Cache
from deploy.central.native.service import HOST, Instance, Profile, Stack, StackFailed
from shared.errors import SpineError

SUPERUSER: Final = "postgres"
_PORT: Final = "postgres"
_SETTINGS: Final = {
    "listen_addresses": HOST,
    "shared_preload_libraries": "timescaledb",
    "timescaledb.telemetry_level": "off",
    # Debian's build has no jobs; a scheduler in each database would only keep it from being copied.
    "timescaledb.max_background_workers": "0",
    "max_connections": "200",
    # A transaction locks every chunk it touches, with its index.
    "max_locks_per_transaction": "256",
    "shared_buffers": "256MB",
    "wal_level": "replica",
    "max_wal_senders": "10",
    "max_wal_size": "4GB",
    "checkpoint_timeout": "15min",
}


class Timescale:
    """TimescaleDB as the launcher's service."""

    name = timescale_root.NAME
    version = versions.TIMESCALEDB
    ports = (_PORT,)
    needs = ()
    # A fast shutdown: transactions are rolled back, everything is written.
    stop_signal = SIGINT
    start_s = 120.0

    def instances(self, profile: Profile) -> Sequence[str]:
        """One in each profile."""
        return (self.name,)

    def missing(self, cache: Cache) -> list[str]:
        """It needs apt to be fetched, and a user to run as where root starts it."""
        return timescale_root.missing(cache)

    def install(self, cache: Cache) -> None:
        """Unpack Debian's packages in the cache."""
        timescale_root.install(cache)

    def prepare(self, instance: Instance) -> None:
        """Make the cluster where there is none, and clear what a killed server left."""
        try:
            _, postmaster = _server(instance)
            if not postmaster.exists():
                postmaster.create(SUPERUSER, instance.stack.secret("postgres_postgres"))
            postmaster.prepare_start()
        except SpineError as error:
            raise StackFailed(str(error)) from error

    def command(self, instance: Instance) -> Sequence[str]:
        """Run the server; as a user of its own where root does."""
        seat, postmaster = _server(instance)
        program = str(timescale_root.bin_folder(instance.stack.cache) / "postgres")
        become: list[str] = []
        if seat.user is not None:
            become = ["setpriv", f"--reuid={seat.user}", f"--regid={seat.user}", "--clear-groups"]
        return [*become, program, "-D", str(postmaster.data)]

    def is_ready(self, instance: Instance) -> bool:
        """Ask whether it takes connections: not while it recovers."""
        asked = subprocess.run(
            [
                str(timescale_root.bin_folder(instance.stack.cache) / "pg_isready"),
                *("-q", "-h", HOST, "-p", str(instance.ports[_PORT]), "-t", "1"),
            ],
            check=False,
        )
        return asked.returncode == 0

    def settle(self, instance: Instance) -> None:
        """Make roles, database and extension where they are missing."""
        try:
            asyncio.run(_settle(instance.stack))
        except SpineError as error:
            raise StackFailed(f"TimescaleDB is up and cannot be prepared: {error}") from error

    def env(self, stack: Stack) -> Mapping[str, str]:
        """Tell the DSNs of central's two roles, and the superuser's."""
        return {
            "SPINE_DSN": _dsn(stack, SERVICE),
            "SPINE_OWNER_DSN": _dsn(stack, OWNER),
            "STACK_POSTGRES_DSN": _dsn(stack, SUPERUSER, "postgres"),
        }


def _server(instance: Instance) -> tuple[Seat, Postmaster]:
    programs = timescale_root.bin_folder(instance.stack.cache)
    seat = Seat.prepare(instance.folder, programs)
    settings = {**_SETTINGS, "port": str(instance.ports[_PORT])}
    return seat, Postmaster(instance.data, seat, settings, programs)


async def _settle(stack: Stack) -> None:
    async with open_pool(_dsn(stack, SUPERUSER, "postgres"), "spine-stack", size=1) as superuser:
        await prepare_roles(superuser, _password(stack, OWNER), _password(stack, SERVICE))
        await prepare_database(superuser)
    async with open_pool(_dsn(stack, SUPERUSER, DATABASE), "spine-stack", size=1) as superuser:
        await prepare_extension(superuser)


def _dsn(stack: Stack, role: str, database: str = DATABASE) -> str:
    port = stack.ports[Timescale.name][_PORT]
    return f"postgresql://{role}:{quote(_password(stack, role), safe='')}@{HOST}:{port}/{database}"


def _password(stack: Stack, role: str) -> str:
    return stack.secret(f"postgres_{role.removeprefix('spine_')}")
