"""OPC UA servers of two other stacks, started once a session: `milo` and `node_opcua_server`.

`pytest_plugins = ["tests.servers.opcua_fixtures"]` in a test module brings them.
"""

from collections.abc import AsyncIterator
from typing import Final

import pytest

from protocols.opcua.trust import make_identity
from tests.servers.milo import Milo
from tests.servers.node_opcua import NodeOpcua
from tests.servers.ports import ports_in_a_row

NODES: Final = 5_000


@pytest.fixture(scope="session")
def identity() -> str:
    """A client certificate and its key that no server knows yet."""
    return make_identity("gateway.test", "urn:gateway.test:spine")


@pytest.fixture(scope="session")
async def milo(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Milo]:
    server = Milo(tmp_path_factory.mktemp("milo"), ports_in_a_row(2))
    try:
        await server.start()
        yield server
    finally:
        await server.stop()


@pytest.fixture(scope="session")
async def node_opcua_server(
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[NodeOpcua]:
    port = ports_in_a_row(1)
    server = NodeOpcua(port, tmp_path_factory.mktemp("node-opcua"), nodes=NODES)
    async with server.process:
        yield server
