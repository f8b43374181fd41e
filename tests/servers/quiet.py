"""A TCP server that takes connections and what is sent, says what it is told to, and counts."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Final

HOST: Final = "127.0.0.1"
DEADLINE_S: Final = 20.0


@dataclass
class Quiet:
    """What a test sees of the server; `answer` makes bytes of what came, empty for silence."""

    answer: Callable[[bytes], bytes] = lambda _: b""
    port: int = 0
    taken: int = 0
    open: int = 0
    received: bytes = b""
    _changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._count(1)
        try:
            with suppress(ConnectionError, asyncio.CancelledError):
                while data := await reader.read(4_096):
                    self.received += data
                    writer.write(self.answer(data))
                    await self._count(0)
        finally:
            writer.transport.abort()
            await self._count(-1)

    async def _count(self, step: int) -> None:
        async with self._changed:
            self.open += step
            self.taken += step > 0
            self._changed.notify_all()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until something holds of this server."""
        async with asyncio.timeout(DEADLINE_S), self._changed:
            await self._changed.wait_for(condition)


@asynccontextmanager
async def quiet_server(answer: Callable[[bytes], bytes] = lambda _: b"") -> AsyncIterator[Quiet]:
    """Listen on a free port."""
    quiet = Quiet(answer)
    server = await asyncio.start_server(quiet.serve, HOST, 0)
    quiet.port = server.sockets[0].getsockname()[1]
    try:
        yield quiet
    finally:
        server.close()
        await quiet.until(lambda: quiet.open == 0)
        await server.wait_closed()
