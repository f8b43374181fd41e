"""HTTP servers inside the gateway's process, which leave its signals to the gateway."""

import asyncio
import socket
from collections.abc import AsyncIterator, Generator
from contextlib import asynccontextmanager, contextmanager, suppress

import uvicorn

from shared.errors import SettingsError

DATE_S = 1.0
"""How often a server looks at the clock."""

GRACE_S = 1
"""How long a stop waits for requests that are under way."""


def listener_at(host: str, port: int, setting: str) -> socket.socket:
    """Listen at an address; raises `SettingsError` that names the setting."""
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family)
    except OSError as error:
        place = f"{host}:{port}"
        problem = f"{setting}: {place} cannot be used ({error.strerror}); choose another port"
        raise SettingsError("gateway", [problem]) from error


@asynccontextmanager
async def serving(config: uvicorn.Config, listener: socket.socket) -> AsyncIterator[None]:
    """Serve as long as the context is open, then close the listener."""
    server = _Server(config)
    task = asyncio.create_task(server.serve([listener]))
    try:
        yield
    finally:
        server.end()
        await task
        listener.close()


class _Server(uvicorn.Server):
    """A server that leaves the process's signals to the gateway, and its time too.

    uvicorn's own looks ten times a second whether it is to end, which costs as much as polls do.
    """

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._ended = asyncio.Event()

    def end(self) -> None:
        """Stop serving."""
        self.should_exit = True
        self._ended.set()

    async def main_loop(self) -> None:
        """Keep the Date header right until the end."""
        while not await self.on_tick(0):
            with suppress(TimeoutError):
                async with asyncio.timeout(DATE_S):
                    await self._ended.wait()

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Capture none."""
        yield
