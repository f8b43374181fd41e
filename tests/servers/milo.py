"""Eclipse Milo's example server: OPC UA on a stack of its own, in Java.

It serves None and Basic256Sha256 (sign and encrypt), the users `user` / `password1` and `admin` /
`password2`, and refuses a client's certificate until somebody moves it from `rejected` to
`trusted`, as an operator does on a controller.
"""

import shutil
import socket
import struct
import subprocess
import zipfile
from pathlib import Path
from typing import Final

import anyio
import pytest

from tests.servers.foreign import START_DEADLINE_S, maven

VERSION: Final = "0.6.12"
HOST: Final = "127.0.0.1"
_MAIN: Final = "org/eclipse/milo/examples/server/ExampleServer"
_PORTS: Final = (12_686, 8_443)
"""Where the example listens: written down in its class as `sipush` instructions."""
_SIPUSH: Final = b"\x11"


class Milo:
    """One server in a folder of its own, on two ports in a row."""

    def __init__(self, folder: Path, port: int) -> None:
        self.port = port
        self._folder = folder
        self._pki = folder / "server" / "security" / "pki"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"opc.tcp://{HOST}:{self.port}/milo"

    @property
    def rejected(self) -> list[Path]:
        """The client certificates that it refused."""
        return sorted((self._pki / "rejected").glob("*"))

    def trust(self) -> None:
        """Trust all whom it refused."""
        trusted = self._pki / "trusted" / "certs"
        trusted.mkdir(parents=True, exist_ok=True)
        for path in self.rejected:
            shutil.move(path, trusted / path.name)

    async def start(self) -> None:
        """Start; accepts connections when this returns."""
        jar = maven("org.eclipse.milo", "server-examples", VERSION)
        classes = _moved(jar, self._folder / "classes", self.port)
        quick = ("-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData")
        place = (f"-Djava.io.tmpdir={self._folder}", "-cp", f"{classes}:{jar}")
        log = self._folder / "milo.log"
        with log.open("wb") as output:
            self._process = subprocess.Popen(  # noqa: ASYNC220 - returns at once
                ["java", *quick, *place, _MAIN.replace("/", ".")], stdout=output, stderr=output
            )
        with anyio.move_on_after(START_DEADLINE_S):
            while self._process.poll() is None:
                if self._accepts():
                    return
                await anyio.sleep(0.05)
        pytest.fail(f"Milo does not start:\n{log.read_text(errors='replace')[-2_000:]}")

    async def stop(self) -> None:
        """End it at once: it keeps nothing but whom it trusts."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            await anyio.to_thread.run_sync(process.wait)

    def _accepts(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex((HOST, self.port)) == 0


def _moved(jar: Path, classes: Path, port: int) -> Path:
    """Make the class that starts it anew, listening at our ports."""
    with zipfile.ZipFile(jar) as packed:
        code = packed.read(f"{_MAIN}.class")
    for fixed, ours in zip(_PORTS, (port, port + 1), strict=True):
        old, new = (_SIPUSH + struct.pack(">h", one) for one in (fixed, ours))
        assert code.count(old) == 1
        code = code.replace(old, new)
    target = classes / f"{_MAIN}.class"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(code)
    return classes
