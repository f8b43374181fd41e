"""An OPC UA server (asyncua's) in this process, on one port, that can be cut off and spoiled."""

import asyncio
import logging
import socket
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

from asyncua import ua
from asyncua.common.node import Node
from asyncua.server.binary_server_asyncio import BinaryServer
from asyncua.server.server import Server
from asyncua.ua.attribute_ids import AttributeIds

HOST: Final = "127.0.0.1"
NAMESPACE: Final = 2


class Lying(bytes):
    """Bytes that claim to be longer than they are: what carries them cannot be decoded."""

    __slots__ = ()

    def __len__(self) -> int:
        return 1 << 20


class OpcuaServer:
    """Variables `ns=2;s=<name>`; `stop` cuts all connections, `start` listens on the port again."""

    def __init__(self) -> None:
        logging.getLogger("asyncua").setLevel(logging.CRITICAL + 1)
        with socket.socket() as probe:
            probe.bind((HOST, 0))
            self.port: int = probe.getsockname()[1]
        self._server: Server | None = None
        self._listener: BinaryServer | None = None
        self._nodes: dict[str, Node] = {}

    @property
    def url(self) -> str:
        return f"opc.tcp://{HOST}:{self.port}/"

    @property
    def connections(self) -> int:
        return len(self._listener.clients) if self._listener is not None else 0

    @property
    def server(self) -> Server:
        assert self._server is not None
        return self._server

    async def start(self) -> None:
        if self._server is None:
            self._server = Server()
            await self._server.init()
            self._server.set_endpoint(self.url)
            self._server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
            await self._server.register_namespace("urn:test")
            await self._server.start()
            self._listener = self._server.bserver
        elif self._listener is None:
            policies = self._server._policies
            listener = BinaryServer(self._server.iserver, HOST, self.port, self._server.limits)
            listener.set_policies(policies)
            await listener.start()
            self._listener = self._server.bserver = listener

    async def stop(self) -> None:
        """Cut all connections and stop listening; the values stay."""
        listener, self._listener = self._listener, None
        if listener is not None:
            for client in list(listener.clients):
                if client.transport is not None:
                    client.transport.abort()
            await asyncio.sleep(0)
            await listener.stop()

    async def close(self) -> None:
        """Stop for good."""
        await self.stop()
        if self._server is not None:
            self._server.bserver = None
            await self._server.stop()
            self._server = None

    async def add(self, name: str, value: Any, kind: ua.VariantType | None = None) -> str:
        """Add a variable; gives its node id."""
        node_id = ua.NodeId(ua.String(name), ua.Int16(NAMESPACE))
        variant = _variant(value, kind)
        node = await self.server.nodes.objects.add_variable(node_id, name, variant)
        self._nodes[name] = node
        return node_id.to_string()

    async def add_numbers(self, names: Sequence[str]) -> list[str]:
        return [await self.add(name, 0.0) for name in names]

    async def put(
        self,
        name: str,
        value: Any,
        *,
        kind: ua.VariantType | None = None,
        status: int = 0,
        at: datetime | None = None,
    ) -> None:
        """Write value, status and source time (now if left out)."""
        variant = _variant(value, kind)
        data = ua.DataValue(
            Value=variant,
            StatusCode=ua.StatusCode(ua.UInt32(status)),
            SourceTimestamp=at or datetime.now(UTC),  # type: ignore[arg-type] # is a datetime
        )
        node_id = self._nodes[name].nodeid
        attribute = AttributeIds.Value
        written = await self.server.iserver.aspace.write_attribute_value(node_id, attribute, data)
        assert written.is_good(), f"{name}: the server refuses the value ({written.name})"

    async def put_odd(self, name: str, value: Any, kind: ua.VariantType | None = None) -> None:
        """Write a value of another type than the variable had."""
        node = self.server.iserver.aspace._nodes[self._nodes[name].nodeid]
        node.attributes[AttributeIds.Value].value = None  # else the server checks the old type
        await self.put(name, value, kind=kind)

    async def end_subscriptions(self, status: int) -> None:
        """Tell every subscriber that its subscription has ended."""
        service = self.server.iserver.subscription_service
        for subscription in list(service.subscriptions.values()):
            await subscription.enqueue_statuschange(ua.StatusCode(ua.UInt32(status)))

    async def silence(self) -> None:
        """Stop publishing, also keep-alives, with the connections left open."""
        service = self.server.iserver.subscription_service
        for subscription in list(service.subscriptions.values()):
            await subscription.stop()


def _variant(value: Any, kind: ua.VariantType | None) -> ua.Variant:
    if isinstance(value, ua.Variant):
        return value
    return ua.Variant(value, kind) if kind is not None else ua.Variant(value)
