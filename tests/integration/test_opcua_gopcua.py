"""The OPC UA driver against gopcua, a peer that refuses much: what it gives is taken."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from protocols.opcua.driver import OpcuaDriver
from protocols.opcua.options import OpcuaDevice
from shared.errors import Refused
from shared.quality import GOOD, QualityClass, class_of
from tests.servers.gopcua import Gopcua
from tests.servers.opcua_points import followed, read, source
from tests.servers.ports import ports_in_a_row

pytestmark = [pytest.mark.integration, pytest.mark.peers]


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Gopcua]:
    async with Gopcua(tmp_path, ports_in_a_row(1)) as server:
        yield server


def device(server: Gopcua) -> OpcuaDevice:
    return OpcuaDevice(url=server.url, timeout_s=3, publishing_interval_ms=100, poll_interval_s=0.5)


async def test_all_that_it_lists_is_read_and_followed(server: Gopcua) -> None:
    async with OpcuaDriver(device(server)) as driver:
        folder = next(one for one in (await driver.browse()).nodes if one.name == "NodeNamespace")
        nodes = (await driver.browse(folder.id)).nodes
    points = [source(one.type, **dict(one.source)) for one in nodes if one.source is not None]
    # Most of a server's own nodes have attributes that this one refuses.
    points += [source(node=f"i={number}") for number in range(2_250, 2_300)]
    columns = await read(device(server), points)
    classes = [class_of(int(quality)) for quality in columns.quality]
    assert columns.quality.tolist().count(GOOD) >= 4
    assert QualityClass.BAD in classes
    async with followed(device(server), points) as inbox:
        await inbox.until(lambda: inbox.series() == set(range(len(points))), "every point")


async def test_it_is_written_and_read_back_or_refuses(server: Gopcua) -> None:
    both, only_read = (source(node=f"nsu=NodeNamespace;i={number}") for number in (100, 101))
    async with OpcuaDriver(device(server)) as driver:
        await driver.write(both, 5.5)
        assert (await driver.read(driver.plan([both]))).value[0] == 5.5
        with pytest.raises(Refused):
            await driver.write(only_read, 5.5)
