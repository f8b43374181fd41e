"""A place in front of a server where its connections can be cut while it goes on itself."""

import asyncio
from typing import Final

from tests.servers.ports import ports_in_a_row

HOST: Final = "127.0.0.1"


class Relay:
    """Passes connections on to a port; `stop` cuts all of them and listens no more."""

    def __init__(self, behind: int) -> None:
        self.port = ports_in_a_row(1)
        self._behind = behind
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    async def start(self) -> None:
        if self._server is None:
            self._server = await asyncio.start_server(self._accept, HOST, self.port)

    async def stop(self) -> None:
        server, self._server = self._server, None
        if server is None:
            return
        server.close()
        for writer in self._writers:
            writer.transport.abort()
        await server.wait_closed()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            back_reader, back = await asyncio.open_connection(HOST, self._behind)
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, back}
        both = _pump(reader, back), _pump(back_reader, writer)
        await asyncio.gather(*both, return_exceptions=True)  # either side may just be gone
        self._writers -= {writer, back}


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    finally:
        writer.close()
