"""The Modbus TCP side: pymodbus servers, one unit id a device, on one port or on one each.

A read that covers the counter is a sample; one that does not is answered with the values of the
moment and counts for nothing, as does every answer that a fault spoils.
"""

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Final, Self

from pymodbus.constants import ExcCodes
from pymodbus.pdu import ModbusPDU
from pymodbus.server import ModbusTcpServer
from pymodbus.server.requesthandler import ServerRequestHandler
from pymodbus.simulator import DataType, SimData, SimDevice

from protocols.simulated.device import Device
from protocols.simulated.faults import Fault
from protocols.simulated.layouts import LAYOUTS, UNITS
from shared.errors import SettingsError

_READS: Final = frozenset({3, 4})
_UNCOUNTED: Final = frozenset({Fault.SILENT, Fault.REFUSE, Fault.SHORT})


class Unit:
    """One device behind its unit id: answers a read with registers made for it."""

    def __init__(self, device: Device) -> None:
        self.device = device
        self.layout = LAYOUTS[device.name]

    def simulated(self) -> SimDevice:
        """Describe it to pymodbus: one block that all tables share, filled when it is read."""
        block = SimData(
            self.layout.first,
            count=self.layout.words,
            values=0,
            datatype=DataType.REGISTERS,
            readonly=True,
        )
        return SimDevice(id=UNITS[self.device.name], simdata=[block], action=self.answer)

    async def answer(
        self,
        function: int,
        first: int,
        address: int,
        count: int,
        registers: list[int],
        written: Sequence[int] | Sequence[bool] | None,
    ) -> ExcCodes | None:
        """Fill the registers for one request, logging the sample; or refuse it."""
        if function not in _READS or written is not None:
            return ExcCodes.ILLEGAL_FUNCTION
        fault = self.device.fault
        if fault is Fault.EXCEPTION:
            return ExcCodes.DEVICE_FAILURE
        is_sample = fault not in _UNCOUNTED and self.layout.holds("counter", address, count)
        sample = self.device.take() if is_sample else self.device.peek()
        block, meanings = self.layout.encode(self.device.name, sample.values, lost=sample.lost)
        registers[: len(block)] = block
        if is_sample:
            self.device.log(sample, meanings)
        return None


class _Connection(ServerRequestHandler):
    """One client's connection; spoils the answers of devices that have such a fault."""

    def server_send(self, pdu: ModbusPDU | None, addr: tuple[str, int] | None) -> None:
        """Send an answer, or what a faulty device makes of it."""
        if not self.is_active():
            return
        fault = self._fault_of(pdu)
        if fault is Fault.SILENT:
            return
        if fault is Fault.REFUSE:
            self.close()
            return
        if fault is Fault.SHORT and pdu is not None and len(pdu.registers) > 1:
            pdu.registers = pdu.registers[: len(pdu.registers) // 2]
        super().server_send(pdu, addr)  # type: ignore[no-untyped-call] # pymodbus types none

    def _fault_of(self, pdu: ModbusPDU | None) -> Fault | None:
        server = self.server
        assert isinstance(server, _Server)  # noqa: S101 -- it is what made this connection
        unit = server.units.get(pdu.dev_id) if pdu else None
        return unit.device.fault if unit else None


class _Server(ModbusTcpServer):
    """A pymodbus server that knows its units."""

    def __init__(self, units: Mapping[int, Unit], host: str, port: int) -> None:
        self.units = units
        super().__init__(
            [unit.simulated() for unit in units.values()],
            address=(host, port),
            ignore_missing_devices=True,
        )

    def callback_new_connection(self) -> ServerRequestHandler:
        """Serve a new client."""
        return _Connection(  # type: ignore[no-untyped-call] # pymodbus does not type it
            self, self.trace_packet, self.trace_pdu, self.trace_connect
        )


class ModbusSide:
    """All Modbus devices; entered, `ports` tells where each is reached."""

    def __init__(
        self, devices: Sequence[Device], host: str, port: int = 0, *, port_each: bool = False
    ) -> None:
        self.host = host
        self.ports: dict[str, int] = {}
        self._devices = devices
        self._port = port
        self._port_each = port_each
        self._servers: list[_Server] = []

    async def __aenter__(self) -> Self:
        """Listen; with one port each, on `port` and those after it, or on free ones if it is 0."""
        groups = [[device] for device in self._devices] if self._port_each else [self._devices]
        for at, group in enumerate(groups):
            port = await self._listen(group, self._port + at if self._port else 0)
            self.ports |= {device.name: port for device in group}
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop listening and hang up."""
        for server in self._servers:
            await server.shutdown()  # type: ignore[no-untyped-call] # pymodbus types it not

    async def _listen(self, devices: Sequence[Device], port: int) -> int:
        units = {UNITS[device.name]: Unit(device) for device in devices}
        server = _Server(units, self.host, port)
        try:
            await server.serve_forever(background=True)
        except RuntimeError as error:
            raise SettingsError("--modbus-port", [f"{self.host}:{port} is in use"]) from error
        self._servers.append(server)
        return listening_port(server.transport)


def listening_port(listener: Any) -> int:
    """Tell the port of an asyncio server."""
    port: int = listener.sockets[0].getsockname()[1]
    return port
