"""One of our programs as a process that is started, killed and started again."""

import asyncio
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx2

from shared.errors import SpineError

ROOT: Final = Path(__file__).resolve().parents[2]
READY_S: Final = 90.0
STOP_S: Final = 40.0
LOOK_S: Final = 0.05
LAST_LINES: Final = 10


class ChaosFailed(SpineError):
    """The harness itself cannot go on; what it says is not a verdict on delivery."""


@dataclass(slots=True)
class Service:
    """A process of `python -m …` with its log file; `ready_url` answers 200 when it works."""

    name: str
    words: Sequence[str]
    folder: Path
    ready_url: str
    starts: int = 0
    _process: asyncio.subprocess.Process | None = field(default=None)

    @property
    def log(self) -> Path:
        """The file that has all it wrote, over all its lives."""
        return self.folder / f"{self.name}.log"

    @property
    def is_running(self) -> bool:
        """Tell whether its process lives."""
        return self._process is not None and self._process.returncode is None

    async def start(self) -> None:
        """Start it; returns at once. A start that has begun is finished even when cancelled."""
        self.starts += 1
        starting = asyncio.ensure_future(self._started())
        try:
            self._process = await asyncio.shield(starting)
        except asyncio.CancelledError:
            self._process = await starting
            raise

    async def _started(self) -> asyncio.subprocess.Process:
        with self.log.open("ab") as output:
            return await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                *self.words,
                cwd=ROOT,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )

    async def wait_ready(self) -> None:
        """Wait until it says that it is ready; raises `ChaosFailed` if it ends or does not."""
        await until(self.is_ready, f"{self.name} ready ({self.log})", READY_S)

    async def is_ready(self) -> bool:
        """Ask it; raises `ChaosFailed` if its process has ended by itself."""
        if not self.is_running:
            code = self._process.returncode if self._process else None
            raise ChaosFailed(f"{self.name} ended by itself with code {code}{self._end()}")
        return await ask(self.ready_url) is not None

    async def kill(self) -> None:
        """End it at once (kill -9)."""
        process = self._process
        if process is not None and process.returncode is None:
            process.kill()
            await process.wait()

    async def stop(self) -> None:
        """Ask it to end; raises `ChaosFailed` if it does not, or not with code 0."""
        process, self._process = self._process, None
        if process is None:
            return
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(STOP_S):
                code = await process.wait()
        except TimeoutError as error:
            process.kill()
            await process.wait()
            raise ChaosFailed(f"{self.name} did not stop in {STOP_S:.0f} s") from error
        if code != 0:
            raise ChaosFailed(f"{self.name} stopped with code {code}{self._end()}")

    def _end(self) -> str:
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join([f"; {self.log}:", *lines[-LAST_LINES:]])


async def command(*words: str) -> str:
    """Run one of our commands and give what it prints; raises `ChaosFailed`."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        *words,
        cwd=ROOT,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(READY_S):
        output, errors = await process.communicate()
    if process.returncode != 0:
        raise ChaosFailed(f"{' '.join(words[:2])} failed: {errors.decode(errors='replace')}")
    return output.decode().strip()


async def ask(url: str) -> dict[str, Any] | None:
    """Get a JSON answer; None if there is none, or not with 200."""
    try:
        async with httpx2.AsyncClient(timeout=2.0) as client:
            answer = await client.get(url)
            return dict(answer.json()) if answer.status_code == 200 else None
    except (httpx2.HTTPError, ValueError):
        return None


def free_port() -> int:
    """Find a port of loopback that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def until(condition: Callable[[], Awaitable[bool]], what: str, deadline_s: float) -> None:
    """Wait until a condition holds; raises `ChaosFailed`."""
    try:
        async with asyncio.timeout(deadline_s):
            while not await condition():  # noqa: ASYNC110 - any condition, not an event
                await asyncio.sleep(LOOK_S)
    except TimeoutError as error:
        raise ChaosFailed(f"not within {deadline_s:g} s: {what}") from error
