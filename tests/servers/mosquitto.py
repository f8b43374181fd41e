"""A real mosquitto on loopback: found on the machine, or unpacked from Debian without root."""

import asyncio
import os
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import anyio
import pytest
from paho.mqtt import publish as paho_publish
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion

HOST: Final = "127.0.0.1"
QOS: Final = 1
START_DEADLINE_S: Final = 20.0
_DEBIAN_PACKAGES: Final = ("mosquitto", "libdlt2", "libwrap0", "libnsl2", "libtirpc3")
_SYSTEM_PATHS: Final = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])


def find() -> tuple[str, Mapping[str, str]]:
    """Give mosquitto's program and environment; skips the test where it cannot be had."""
    installed = shutil.which("mosquitto", path=_SYSTEM_PATHS)
    if installed is not None:
        return installed, os.environ
    root = _cache() / "mosquitto"
    program = root / "usr/sbin/mosquitto"
    if not program.exists():
        _unpack(root)
    libraries = [path.parent for path in root.rglob("*.so.*")]
    joined = os.pathsep.join(sorted({str(path) for path in libraries}))
    environment = dict(os.environ, LD_LIBRARY_PATH=joined)
    tried = subprocess.run([program, "-h"], env=environment, capture_output=True, check=False)
    if b"mosquitto" not in tried.stdout + tried.stderr:
        pytest.skip(f"mosquitto was unpacked to {root} and does not run: {tried.stderr.decode()}")
    return str(program), environment


class Mosquitto:
    """A broker process with its own data folder; starts on a free port and keeps it.

    `settings` are further lines of its configuration, such as `max_queued_messages 100`. Sessions
    are written to disk with every change, so a kill -9 forgets as little as mosquitto can.
    """

    def __init__(self, home: Path, **settings: object) -> None:
        self._home = home
        self._settings = settings
        self._process: subprocess.Popen[bytes] | None = None
        with socket.socket() as probe:
            probe.bind((HOST, 0))
            self.port: int = probe.getsockname()[1]

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Start; accepts connections when this returns."""
        if self._process is not None:
            return
        program, environment = await asyncio.to_thread(find)
        config = self._home / "mosquitto.conf"
        config.write_text(self._config())
        log = self._home / "mosquitto.log"
        with log.open("ab") as output:
            self._process = subprocess.Popen(  # noqa: ASYNC220 - returns at once
                [program, "-c", str(config)], env=environment, stdout=output, stderr=output
            )
        with anyio.move_on_after(START_DEADLINE_S):
            while not self._accepts():
                if self._process.poll() is not None:
                    break
                await anyio.sleep(0.02)
            else:
                return
        pytest.fail(f"mosquitto does not start:\n{log.read_text()}")

    async def stop(self) -> None:
        """Ask it to end: it writes its sessions first."""
        await self._end(kill=False)

    async def kill(self) -> None:
        """End it at once (kill -9)."""
        await self._end(kill=True)

    async def _end(self, *, kill: bool) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        if kill:
            process.kill()
        else:
            process.terminate()
        await asyncio.to_thread(process.wait, 20)

    def _accepts(self) -> bool:
        with socket.socket() as probe:
            probe.settimeout(0.5)
            return probe.connect_ex((HOST, self.port)) == 0

    def _config(self) -> str:
        lines: dict[str, object] = {
            "user": "root",  # only heeded when root starts it: may then write its folder
            "allow_anonymous": "true",
            "persistence": "true",
            "persistence_location": f"{self._home}/",
            "autosave_on_changes": "true",
            "autosave_interval": 1,
            **self._settings,
        }
        first = f"listener {self.port} {HOST}\n"
        return first + "".join(f"{name} {value}\n" for name, value in lines.items())


@asynccontextmanager
async def mosquitto(home: Path, **settings: object) -> AsyncIterator[Mosquitto]:
    """Run a broker for the length of a block."""
    async with Mosquitto(home, **settings) as broker:
        yield broker


def _cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "spine" / "debian"


def _unpack(root: Path) -> None:
    """Fetch Debian packages as a plain user and unpack them beside each other."""
    for tool in ("apt-get", "dpkg-deb"):
        if shutil.which(tool) is None:
            pytest.skip(f"no mosquitto on PATH or in /usr/sbin, and no {tool} to fetch it with")
    packages = root.parent / "packages"
    packages.mkdir(parents=True, exist_ok=True)
    fetched = subprocess.run(
        ["apt-get", "download", *_DEBIAN_PACKAGES], cwd=packages, capture_output=True, check=False
    )
    if fetched.returncode:
        pytest.skip(f"mosquitto cannot be fetched: {fetched.stderr.decode().strip()[-300:]}")
    fresh = root.with_name(f"{root.name}.{os.getpid()}")
    for package in sorted(packages.glob("*.deb")):
        subprocess.run(["dpkg-deb", "-x", str(package), str(fresh)], check=True)
    try:
        fresh.rename(root)
    except OSError:  # another test run was faster
        shutil.rmtree(fresh)


async def publish(port: int, topic: str, *payloads: str | bytes, retain: bool = False) -> None:
    """Publish with QoS 1 and wait until the broker has it all."""
    messages: list[Any] = [(topic, payload, QOS, retain) for payload in payloads]
    await asyncio.to_thread(paho_publish.multiple, messages, hostname=HOST, port=port)


async def establish(port: int, client_id: str, *topics: str) -> None:
    """Make a persistent session that has subscribed, so that nothing published is missed."""

    def run() -> None:
        client = Client(CallbackAPIVersion.VERSION2, client_id=client_id, clean_session=False)

        def on_connect(*_: object) -> None:
            client.subscribe([(topic, QOS) for topic in topics])

        def on_subscribe(*_: object) -> None:
            client.disconnect()

        client.on_connect, client.on_subscribe = on_connect, on_subscribe
        client.connect(HOST, port)
        client.loop_forever()

    await asyncio.to_thread(run)
