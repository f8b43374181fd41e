"""The OPC UA driver keeps the driver contract against servers of two other stacks."""

from collections.abc import AsyncIterator, Sequence
from typing import Any, Final

import pytest
from asyncua import ua
from asyncua.client.client import Client
from asyncua.ua.attribute_ids import AttributeIds

from protocols.driver import PointSource
from protocols.opcua import driver_type
from protocols.opcua.options import OpcuaDevice, OpcuaPoint
from protocols.testing.suite import PollingContract, PushingContract
from shared.model import Point
from tests.servers.milo import Milo
from tests.servers.node_opcua import NAMESPACE, NodeOpcua
from tests.servers.relay import HOST, Relay

pytest_plugins = ["tests.servers.opcua_fixtures"]
pytestmark = pytest.mark.integration

HELLO: Final = "nsu=urn:eclipse:milo:hello-world;s=HelloWorld"


class ForeignRig:
    """Three numbers of a server that stays up behind a relay, which is what stops and starts."""

    driver_type = driver_type()
    wrong_options: Sequence[dict[str, Any]] = ({"url": "opc.tcp://"}, {"mode": "never"})
    wrong_points: Sequence[dict[str, Any]] = ({"node": "temp"}, {"path": "temp"})
    path: str

    def __init__(self, port: int) -> None:
        self.relay = Relay(port)

    def options(self, port: int | None = None) -> OpcuaDevice:
        return OpcuaDevice(
            url=f"opc.tcp://{HOST}:{port or self.relay.port}{self.path}",
            timeout_s=2,
            publishing_interval_ms=100,
            keepalive_s=0.5,
        )

    def points(self) -> Sequence[PointSource]:
        return [PointSource(Point(node), OpcuaPoint(node=node)) for node in self.nodes()]

    def nodes(self) -> list[str]:
        raise NotImplementedError

    async def start(self) -> None:
        await self.relay.start()

    async def stop(self) -> None:
        await self.relay.stop()


class MiloRig(ForeignRig):
    """Eclipse Milo, Java: values are written over a second connection."""

    path = "/milo"
    kinds: Final = (("Double", ua.VariantType.Double), ("Float", ua.VariantType.Float),
                    ("Int32", ua.VariantType.Int32))  # fmt: skip

    def __init__(self, milo: Milo, writer: Client) -> None:
        super().__init__(milo.port)
        self._writer = writer
        self._failed: set[int] = set()

    def nodes(self) -> list[str]:
        good = [f"{HELLO}/ScalarTypes/{name}" for name, _ in self.kinds]
        unreadable = f"{HELLO}/OnlyAdminCanRead/String"
        return [unreadable if at in self._failed else node for at, node in enumerate(good)]

    async def put(self, index: int, value: float) -> None:
        name, kind = self.kinds[index]
        node = self._writer.get_node(f"ns=2;s=HelloWorld/ScalarTypes/{name}")
        made = int(value) if kind is ua.VariantType.Int32 else value
        await node.write_attribute(AttributeIds.Value, ua.DataValue(ua.Variant(made, kind)))

    async def fail(self, index: int) -> None:
        self._failed.add(index)


class NodeOpcuaRig(ForeignRig):
    """node-opcua, JavaScript: values are put by the server itself."""

    path = "/UA/spine"

    def __init__(self, server: NodeOpcua) -> None:
        super().__init__(server.port)
        self._server = server

    def nodes(self) -> list[str]:
        return [f"nsu={NAMESPACE};s=Room{index}.Temp" for index in range(3)]

    async def put(self, index: int, value: float) -> None:
        await self._server.process.tell(put={f"Room{index}.Temp": value})

    async def fail(self, index: int) -> None:
        await self._server.process.tell(fail=[f"Room{index}.Temp"])


class TestMilo(PollingContract, PushingContract):
    @pytest.fixture
    async def rig(self, milo: Milo) -> AsyncIterator[MiloRig]:
        async with Client(milo.url) as writer:
            rig = MiloRig(milo, writer)
            for index in range(3):
                await rig.put(index, 0.0)
            await rig.start()
            yield rig
            await rig.stop()


class TestNodeOpcua(PollingContract, PushingContract):
    @pytest.fixture
    async def rig(self, node_opcua_server: NodeOpcua) -> AsyncIterator[NodeOpcuaRig]:
        rig = NodeOpcuaRig(node_opcua_server)
        for index in range(3):
            await rig.put(index, 0.0)
        await rig.start()
        yield rig
        await rig.stop()
