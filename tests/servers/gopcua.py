"""gopcua's example server, Go: one that refuses most of what it is asked, and some of it oddly."""

import os
import socket
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import anyio
import pytest

from deploy.central.native.cache import Cache
from tests.servers.foreign import INSTALL_DEADLINE_S, START_DEADLINE_S, needs

VERSION: Final = "v0.8.0"
HOST: Final = "127.0.0.1"
_COMMAND: Final = "github.com/gopcua/opcua/examples/server/node_server"


class Gopcua:
    """One server with a certificate of its own making, in a folder of its own."""

    def __init__(self, folder: Path, port: int) -> None:
        self.port = port
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"opc.tcp://{HOST}:{self.port}"

    async def __aenter__(self) -> Self:
        needs("go")
        program = Cache.of_user().place("gopcua", VERSION, _build) / "node_server"
        log = self._folder / "gopcua.log"
        place = ("-endpoint", HOST, "-port", str(self.port), "-gen-cert")
        with log.open("wb") as output:
            self._process = subprocess.Popen(  # noqa: ASYNC220 - returns at once
                [program, *place], cwd=self._folder, stdout=output, stderr=output
            )
        with anyio.move_on_after(START_DEADLINE_S):
            while self._process.poll() is None:
                with socket.socket() as probe:
                    if probe.connect_ex((HOST, self.port)) == 0:
                        return self
                await anyio.sleep(0.05)
        pytest.fail(f"gopcua does not start:\n{log.read_text(errors='replace')[-2_000:]}")

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._process is not None:
            self._process.kill()
            await anyio.to_thread.run_sync(self._process.wait)


def _build(folder: Path) -> None:
    done = subprocess.run(
        ["go", "install", f"{_COMMAND}@{VERSION}"],
        env=dict(os.environ, GOBIN=str(folder)),
        capture_output=True,
        text=True,
        timeout=INSTALL_DEADLINE_S,
        check=False,
    )
    if done.returncode:
        pytest.skip(f"gopcua cannot be built here: {done.stderr.strip()[-400:]}")
