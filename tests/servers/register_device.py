"""A Modbus TCP device that knows exactly the registers it is given: any other is exception 2."""

import asyncio
import struct
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Final

HOST: Final = "127.0.0.1"

_TABLES: Final = {3: "holding", 4: "input"}
_ILLEGAL_FUNCTION: Final = 1
_ILLEGAL_ADDRESS: Final = 2


@asynccontextmanager
async def register_device(tables: Mapping[str, Mapping[int, int]]) -> AsyncIterator[int]:
    """Serve register tables of words by address; yields the port."""
    server = await asyncio.start_server(
        lambda reader, writer: _serve(reader, writer, tables), HOST, 0
    )
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await server.wait_closed()


async def _serve(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    tables: Mapping[str, Mapping[int, int]],
) -> None:
    try:
        while True:
            transaction, _, length, unit = struct.unpack(">HHHB", await reader.readexactly(7))
            answer = _answered(await reader.readexactly(length - 1), tables)
            writer.write(struct.pack(">HHHB", transaction, 0, len(answer) + 1, unit) + answer)
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


def _answered(request: bytes, tables: Mapping[str, Mapping[int, int]]) -> bytes:
    function = request[0]
    words = tables.get(_TABLES.get(function, ""))
    if words is None:
        code = _ILLEGAL_ADDRESS if function in _TABLES else _ILLEGAL_FUNCTION
        return bytes((function | 0x80, code))
    start, count = struct.unpack(">HH", request[1:5])
    asked = [words.get(address) for address in range(start, start + count)]
    if None in asked:
        return bytes((function | 0x80, _ILLEGAL_ADDRESS))
    return struct.pack(f">BB{count}H", function, 2 * count, *asked)
