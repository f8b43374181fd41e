"""Modbus TCP servers for tests: one that behaves (pymodbus), and one that follows a script."""

import asyncio
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Final, Self

from pymodbus import FramerType
from pymodbus.constants import ExcCodes
from pymodbus.server import ModbusSerialServer, ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from tests.servers.serial_line import SerialLine

HOST: Final = "127.0.0.1"
SIZE: Final = 2_048
_TABLES: Final = {1: "coil", 2: "discrete", 3: "holding", 4: "input"}
_WRITTEN: Final = {5: "coil", 6: "holding", 16: "holding"}


class RegisterServer:
    """A pymodbus server whose tables are plain lists, on the same port after a restart.

    `unknown` holds (table, address) pairs that the device does not have: exception 2. `busy` makes
    every answer the exception of that code.
    """

    def __init__(
        self, framer: FramerType = FramerType.SOCKET, serial: SerialLine | None = None
    ) -> None:
        self.port = 0
        self._serial = serial
        self._framer = framer
        self.tables: dict[str, list[int]] = {name: [0] * SIZE for name in _TABLES.values()}
        self.unknown: set[tuple[str, int]] = set()
        self.busy: ExcCodes | None = None
        self.requests: list[tuple[str, int, int]] = []
        self._server: ModbusTcpServer | ModbusSerialServer | None = None

    async def start(self) -> None:
        if self._serial is not None:
            await self._start_serial(self._serial)
        elif self._server is None:
            self._server = ModbusTcpServer(
                self._device(), framer=self._framer, address=(HOST, self.port)
            )
            await self._server.serve_forever(background=True)
            self.port = listening_port(self._server.transport)

    async def _start_serial(self, line: SerialLine) -> None:
        if self._server is None:
            line.plug_in()
            self._server = ModbusSerialServer(
                self._device(), framer=FramerType.RTU, port=str(line.theirs), baudrate=9_600
            )
            await self._server.serve_forever(background=True)

    async def stop(self) -> None:
        """Stop listening and cut every connection; a serial line is pulled out."""
        server, self._server = self._server, None
        if self._serial is not None and server is not None:
            self._serial.pull_out()
        if server is not None:
            await server.shutdown()  # type: ignore[no-untyped-call]  # pymodbus leaves it so
            await asyncio.sleep(0)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    def put(self, table: str, start: int, values: Iterable[int]) -> None:
        for address, value in enumerate(values, start):
            self.tables[table][address] = value

    def _device(self) -> SimDevice:
        bits = [SimData(0, values=[False] * SIZE, datatype=DataType.BITS)]
        words = [SimData(0, count=SIZE, values=0, datatype=DataType.REGISTERS)]
        return SimDevice(1, (bits, list(bits), words, list(words)), action=self._act)

    async def _act(
        self,
        function: int,
        start: int,
        address: int,
        count: int,
        registers: list[int],
        written: list[int] | list[bool] | None,
    ) -> ExcCodes | None:
        if written is not None:
            return self._write(_WRITTEN[function], address, written)
        table = _TABLES.get(function) or _WRITTEN[function]  # a write is answered by a read
        self.requests.append((table, address, count))
        if self.busy is not None:
            return self.busy
        width = 16 if table in {"coil", "discrete"} else 1
        if any((table, address + at) in self.unknown for at in range(count * width)):
            return ExcCodes.ILLEGAL_ADDRESS
        registers[: SIZE // width] = _words(self.tables[table], width)
        return None

    def _write(self, table: str, address: int, written: list[int] | list[bool]) -> ExcCodes | None:
        if self.busy is not None:
            return self.busy
        self.put(table, address, (int(value) for value in written))
        return None


def _words(values: list[int], width: int) -> list[int]:
    if width == 1:
        return values
    return [
        sum(bit << at for at, bit in enumerate(values[first : first + width]))
        for first in range(0, len(values), width)
    ]


def listening_port(server: object) -> int:
    """Tell the port that a listening asyncio server was given."""
    assert isinstance(server, asyncio.Server)
    port: int = server.sockets[0].getsockname()[1]
    return port


@dataclass(frozen=True)
class Request:
    """One request as it came."""

    transaction: int
    unit: int
    function: int
    start: int
    count: int

    def frame(self, pdu: bytes, *, transaction: int | None = None) -> bytes:
        """Put a right header before any PDU."""
        shown = self.transaction if transaction is None else transaction
        return struct.pack(">HHHB", shown, 0, len(pdu) + 1, self.unit) + pdu

    def answer(self, registers: Iterable[int]) -> bytes:
        """Answer with registers, whatever was asked."""
        data = b"".join(struct.pack(">H", register) for register in registers)
        return self.frame(bytes([self.function, len(data)]) + data)

    def counting(self) -> bytes:
        """Answer rightly: each register holds its own address."""
        return self.answer(range(self.start, self.start + self.count))

    def exception(self, code: int) -> bytes:
        return self.frame(bytes([self.function | 0x80, code]))


Script = Callable[[Request, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def scripted_server(script: Script) -> AsyncIterator[int]:
    """Listen on a free port and leave every answer to `script`; gives the port."""
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            # cancelled too: asyncio's streams log an error for a handler that ends so
            with suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
                while not writer.is_closing():
                    data = await reader.readexactly(12)
                    transaction, _, _, unit, function, start, count = struct.unpack(
                        ">HHHBBHH", data
                    )
                    await script(Request(transaction, unit, function, start, count), writer)
        finally:
            writer.transport.abort()

    server = await asyncio.start_server(serve, HOST, 0)
    try:
        yield listening_port(server)
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()
