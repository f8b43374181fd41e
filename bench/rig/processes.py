"""Processes of the rig: each in a folder of its own, what it says in a file, ended with it."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from bench.stage import StageCannotRun

LOOK_S: Final = 0.1
STOP_S: Final = 20.0
_LINES: Final = 15


class Running:
    """A process that can be ended, killed and started again."""

    def __init__(self, command: Sequence[str], folder: Path, env: Mapping[str, str]) -> None:
        """Keep how it is started."""
        self._command = command
        self._folder = folder
        self._env = env
        self._process: asyncio.subprocess.Process | None = None
        self.started_at = 0.0
        """When it was started last, on the clock of `time.time`."""

    @property
    def pid(self) -> int:
        """Its process id, also after its end."""
        assert self._process is not None, "it was not started"
        return self._process.pid

    @property
    def log(self) -> Path:
        """What it said."""
        return self._folder / "log.txt"

    async def start(self) -> None:
        """Start it."""
        self.started_at = time.time()
        with self.log.open("ab") as output:
            self._process = await asyncio.create_subprocess_exec(
                *self._command,
                cwd=self._folder,
                env={**os.environ, **self._env},
                stdin=asyncio.subprocess.PIPE,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def tell(self, line: str) -> None:
        """Write a line to its standard input."""
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n".encode())

    async def kill(self) -> None:
        """End it at once (kill -9)."""
        await self.end(signal.SIGKILL)

    async def end(self, number: signal.Signals = signal.SIGTERM) -> None:
        """End it with all its children; those that do not go are killed."""
        process = self._process
        if process is None or process.returncode is not None:
            return
        os.killpg(process.pid, number)
        try:
            async with asyncio.timeout(STOP_S):
                await process.wait()
        except TimeoutError:
            os.killpg(process.pid, signal.SIGKILL)
            await process.wait()

    async def keep_up(self, seconds: float) -> None:
        """Start it again whenever it ends by itself, for so long, as a service manager does."""
        end_s = time.monotonic() + seconds
        while time.monotonic() < end_s:
            if self._process is not None and self._process.returncode is not None:
                await self.start()
            await asyncio.sleep(1.0)

    async def until(self, is_true: Callable[[], bool], what: str, limit_s: float) -> None:
        """Wait for something; raises `StageCannotRun` with its last lines if that never comes."""
        assert self._process is not None
        end_s = time.monotonic() + limit_s
        while not is_true():
            if self._process.returncode is not None or time.monotonic() > end_s:
                last = "\n".join(self.log.read_text("utf-8", "replace").splitlines()[-_LINES:])
                raise StageCannotRun(f"{self._command[0]}: {what}:\n{last}")
            await asyncio.sleep(LOOK_S)


@asynccontextmanager
async def running(
    command: Sequence[str], folder: Path, env: Mapping[str, str] | None = None
) -> AsyncIterator[Running]:
    """Run a process while the context lasts."""
    await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
    process = Running(command, folder, env or {})
    await process.start()
    try:
        yield process
    finally:
        await process.end()
