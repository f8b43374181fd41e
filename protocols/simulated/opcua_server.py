"""The OPC UA side: one asyncua server with a folder a device.

At each tick all nodes of a device are written with one source timestamp, between which nothing else
runs: a publication holds a tick whole or not at all.
"""

import struct
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Final, Self

import asyncua
from asyncua.server.server import Server

from protocols.simulated.device import Device
from protocols.simulated.faults import Fault
from shared.clock import to_datetime
from shared.errors import SettingsError
from shared.model import Point, PointType

ua: Any = asyncua.ua
"""Untyped here: its annotations ask for own integer classes where plain ints are meant."""

NAMESPACE: Final = "urn:spine:simulated-building"
NAMESPACE_INDEX: Final = 2
"""Of the first namespace that is registered; a gateway's configuration names it."""

_PAUSED: Final = frozenset({Fault.SILENT, Fault.REFUSE})
_WAITING: Final = ua.StatusCode(ua.StatusCodes.BadWaitingForInitialData)
_FAILED: Final = ua.StatusCode(ua.StatusCodes.BadDeviceFailure)
_LOST_SIGHT: Final = ua.StatusCode(ua.StatusCodes.BadSensorFailure)


class Folder:
    """One device in the server: its nodes, and how a sample is written to them."""

    def __init__(self, device: Device, server: Any) -> None:
        self.device = device
        self._server = server
        self._nodes: dict[str, tuple[Any, Any]] = {}

    async def create(self) -> None:
        """Make the folder and its variables, which wait for their first value."""
        parent = await self._server.nodes.objects.add_object(
            ua.NodeId(self.device.name, NAMESPACE_INDEX), self.device.name
        )
        for point in self.device.points:
            node_id = ua.NodeId(point.key, NAMESPACE_INDEX)
            kind = variant_type(point)
            start = False if kind is ua.VariantType.Boolean else 0
            await parent.add_variable(node_id, point.key.rpartition("/")[2], start, kind)
            self._nodes[point.key] = (node_id, kind)
        await self._write_all(ua.DataValue(StatusCode=_WAITING))

    async def tick(self) -> None:
        """Serve one sample, as far as the device's fault lets it."""
        fault = self.device.fault
        if fault in _PAUSED:
            return
        if fault is Fault.EXCEPTION:
            at = to_datetime(self.device.peek().at_us)
            await self._write_all(ua.DataValue(StatusCode=_FAILED, SourceTimestamp=at))
            return
        sample = self.device.take()
        seen = {key: held(value, self._nodes[key][1]) for key, value in sample.seen().items()}
        self.device.log(sample, seen)
        at = to_datetime(sample.at_us)
        for key, (node_id, kind) in self._nodes.items():
            await self._put(node_id, data_value(seen[key], kind, at))

    async def _write_all(self, value: Any) -> None:
        for node_id, _ in self._nodes.values():
            await self._put(node_id, value)

    async def _put(self, node_id: Any, value: Any) -> None:
        """Write beneath the services, which check what here is always right."""
        status = await self._server.iserver.aspace.write_attribute_value(
            node_id, ua.AttributeIds.Value, value
        )
        status.check()


class OpcuaSide:
    """All OPC UA devices behind one server; entered, `url` tells where."""

    def __init__(self, devices: Sequence[Device], host: str, port: int = 0) -> None:
        self.host = host
        self.port = port
        self._server: Any = Server()
        self._folders = [Folder(device, self._server) for device in devices]

    @property
    def url(self) -> str:
        """Where the server listens."""
        return f"opc.tcp://{self.host}:{self.port}/"

    async def __aenter__(self) -> Self:
        """Build the address space, serve a first tick, and listen."""
        server = self._server
        await server.init()
        server.set_endpoint(self.url)
        server.set_server_name("Simulated building")
        server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
        server.set_identity_tokens([ua.AnonymousIdentityToken])
        await server.register_namespace(NAMESPACE)
        for folder in self._folders:
            await folder.create()
        await self.tick()
        try:
            await server.start()
        except OSError as error:
            raise SettingsError("--opcua-port", [f"{self.url} cannot listen: {error}"]) from error
        self.port = server.bserver.port
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Hang up and stop."""
        await self._server.stop()

    async def tick(self) -> None:
        """Serve one sample of every device, each at once."""
        for folder in self._folders:
            await folder.tick()

    async def refuse(self, begins: bool) -> None:
        """Stop listening and hang up on everyone, or listen again on the same port."""
        if begins:
            await self._server.bserver.stop()
        else:
            await self._server.bserver.start()


def variant_type(point: Point) -> Any:
    """Choose a node's type: Boolean, UInt32 for counters, Float for flows, else Double."""
    if point.type is PointType.BOOLEAN:
        return ua.VariantType.Boolean
    if point.key.endswith("/counter"):
        return ua.VariantType.UInt32
    return ua.VariantType.Float if point.unit == "m3/h" else ua.VariantType.Double


def held(value: float | None, kind: Any) -> float | None:
    """Tell what a node of a type makes of a value: a Float keeps fewer digits."""
    if value is None or kind is not ua.VariantType.Float:
        return value
    (narrowed,) = struct.unpack("<f", struct.pack("<f", value))
    return float(narrowed)


def data_value(value: float | None, kind: Any, at: Any) -> Any:
    """Make what a node holds; None is a sensor that failed."""
    if value is None:
        return ua.DataValue(StatusCode=_LOST_SIGHT, SourceTimestamp=at)
    content: float = value
    if kind is ua.VariantType.Boolean:
        content = bool(value)
    elif kind is ua.VariantType.UInt32:
        content = int(value)
    return ua.DataValue(ua.Variant(content, kind), SourceTimestamp=at)
