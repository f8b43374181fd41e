"""One of our programs as a process that is started, killed and started again."""

import asyncio
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx2

from shared.errors import SpineError

LOOPBACK: Final = "127.0.0.1"
ROOT: Final = Path(__file__).resolve().parents[2]
READY_S: Final = 90.0
STOP_S: Final = 40.0
LOOK_S: Final = 0.05
LAST_LINES: Final = 10
ROW_TRIES: Final = 100


class ChaosFailed(SpineError):
    """The harness itself cannot go on; what it says is not a verdict on delivery."""


@dataclass(slots=True)
class Service:
    """A process of `python -m …` with its log file; `ready_url` answers 200 when it works."""

    name: str
    words: Sequence[str]
    folder: Path
    ready_url: str
    env: Mapping[str, str] | None = None
    """Its environment; None: that of the harness."""
    starts: int = 0
    _process: asyncio.subprocess.Process | None = field(default=None)

    @property
    def log(self) -> Path:
        """The file that has all it wrote, over all its lives."""
        return self.folder / f"{self.name}.log"

    @property
    def said_bytes(self) -> int:
        """Tell how much it has written into its log."""
        return self.log.stat().st_size if self.log.exists() else 0

    @property
    def is_running(self) -> bool:
        """Tell whether its process lives."""
        return self._process is not None and self._process.returncode is None

    async def start(self) -> None:
        """Start it; returns at once. A start that has begun is finished even when cancelled."""
        self.starts += 1
        await finished(self._start())

    async def _start(self) -> None:
        with self.log.open("ab") as output:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                *self.words,
                cwd=ROOT,
                env=self.env,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )

    async def wait_ready(self) -> None:
        """Wait until it says that it is ready; raises `ChaosFailed` if it ends or does not."""
        try:
            await until(self.is_ready, f"{self.name} ready ({self.log})", READY_S)
        except ChaosFailed as error:
            raise ChaosFailed(f"{error}; it says {await look(self.ready_url)}") from error

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


async def finished(work: Coroutine[Any, Any, None]) -> None:
    """Do some work to its end, even when cancelled meanwhile."""
    task = asyncio.ensure_future(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await task
        raise


async def command(*words: str, env: Mapping[str, str] | None = None) -> str:
    """Run one of our commands and give what it prints; raises `ChaosFailed`."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        *words,
        cwd=ROOT,
        env=env,
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


async def look(url: str) -> str:
    """Get whatever is answered, for people."""
    try:
        async with httpx2.AsyncClient(timeout=5.0) as client:
            answer = await client.get(url)
            return f"{answer.status_code} {answer.text}"
    except httpx2.HTTPError as error:
        return f"nothing ({error!r})"


def free_port() -> int:
    """Find a port of loopback that nobody uses now."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


def free_row(length: int) -> int:
    """Find the first of so many ports of loopback in a row that nobody uses now."""
    for _ in range(ROW_TRIES):
        first = free_port()
        try:
            with ExitStack() as held:
                for port in range(first, first + length):
                    held.enter_context(socket.socket()).bind((LOOPBACK, port))
        except (OSError, OverflowError):
            continue
        return first
    raise ChaosFailed(f"no {length} free ports in a row on loopback")


async def until(condition: Callable[[], Awaitable[bool]], what: str, deadline_s: float) -> None:
    """Wait until a condition holds; raises `ChaosFailed`."""
    try:
        async with asyncio.timeout(deadline_s):
            while not await condition():  # noqa: ASYNC110 - any condition, not an event
                await asyncio.sleep(LOOK_S)
    except TimeoutError as error:
        raise ChaosFailed(f"not within {deadline_s:g} s: {what}") from error
