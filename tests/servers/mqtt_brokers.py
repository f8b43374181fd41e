"""MQTT brokers of other makers on loopback: aedes (JavaScript, `make test`), mochi (Go, peers)."""

import os
import subprocess
from pathlib import Path
from typing import Final

import anyio
import pytest

from deploy.central.native.cache import Cache
from protocols.testing.rig import closed_port
from tests.servers.foreign import INSTALL_DEADLINE_S, START_DEADLINE_S, Foreign, needs, npm
from tests.servers.mosquitto import HOST

AEDES: Final = "1.2.0"
MOCHI: Final = "v2.7.9"
_MOCHI_COMMAND: Final = "github.com/mochi-mqtt/server/v2/cmd"


class Broker(Foreign):
    """A broker that keeps its port; what it remembers is gone when it is stopped."""

    def __init__(self, command: list[object], log: Path, port: int, **environment: str) -> None:
        super().__init__(command, log, **environment)
        self.port = port


class Silent(Broker):
    """One that does not say when it serves: its port does."""

    async def until_logged(self, word: str, times: int) -> None:
        with anyio.move_on_after(START_DEADLINE_S):
            while self.is_running:
                try:
                    stream = await anyio.connect_tcp(HOST, self.port)
                except OSError:
                    await anyio.sleep(0.02)
                else:
                    await stream.aclose()
                    return
        pytest.fail(f"the broker does not start:\n{self.log[-2_000:]}")


def aedes(folder: Path) -> Broker:
    """Make an aedes that is not started yet."""
    modules, port = npm("aedes", AEDES), closed_port()
    command: list[object] = ["node", Path(__file__).with_name("aedes.mjs")]
    return Broker(command, folder / "aedes.log", port, PORT=str(port), MODULES=str(modules))


def mochi(folder: Path) -> Broker:
    """Make a mochi that is not started yet."""
    needs("go")
    program = Cache.of_user().place("mochi", MOCHI, _build) / "cmd"
    tcp, web, info = (f"{HOST}:{closed_port()}" for _ in range(3))
    command: list[object] = [program, "-tcp", tcp, "-ws", web, "-info", info]
    return Silent(command, folder / "mochi.log", int(tcp.rsplit(":", 1)[1]))


def _build(folder: Path) -> None:
    done = subprocess.run(
        ["go", "install", f"{_MOCHI_COMMAND}@{MOCHI}"],
        env=dict(os.environ, GOBIN=str(folder)),
        capture_output=True,
        text=True,
        timeout=INSTALL_DEADLINE_S,
        check=False,
    )
    if done.returncode:
        pytest.skip(f"mochi cannot be built here: {done.stderr.strip()[-400:]}")
