"""A server that comes back with other namespace numbers and other ids."""

from pathlib import Path
from typing import Final

import pytest

from protocols.opcua.options import OpcuaDevice
from shared.quality import GOOD, Reason, bad
from tests.servers.node_opcua import NAMESPACE, NodeOpcua
from tests.servers.opcua_points import followed, read, source
from tests.servers.ports import ports_in_a_row

pytestmark = pytest.mark.integration

ROOM: Final = source(node=f"nsu={NAMESPACE};s=Room0.Temp")
PUMP: Final = source(node=f"nsu={NAMESPACE};i=9000", path="/Objects/Plant/Pump")
FAN: Final = source(path="/Objects/Plant/Fan")
BY_NUMBER: Final = source(node="ns=2;s=Room0.Temp")
NUMBER_WITH_PATH: Final = source(node="ns=2;s=Room0.Temp", path="/Objects/Building/Room0.Temp")
NOWHERE: Final = source(node=f"nsu={NAMESPACE};i=77", path="/Objects/Plant/Turbine")
POINTS: Final = [ROOM, PUMP, FAN, BY_NUMBER, NUMBER_WITH_PATH, NOWHERE]


async def test_points_are_found_again_after_a_restart_with_other_ids(tmp_path: Path) -> None:
    port = ports_in_a_row(1)
    options = OpcuaDevice(
        url=f"opc.tcp://127.0.0.1:{port}/UA/spine",
        timeout_s=10,
        publishing_interval_ms=50,
        keepalive_s=0.5,
    )
    lost = bad(Reason.WRONG_ADDRESS)
    before, after = (tmp_path / name for name in ("before", "after"))
    before.mkdir()
    after.mkdir()
    async with NodeOpcua(port, before, nodes=3).process:
        columns = await read(options, POINTS)
        assert columns.quality.tolist() == [GOOD] * 5 + [lost]
        assert columns.value[:5].tolist() == [20, 100, 101, 20, 20]
    restarted = NodeOpcua(port, after, nodes=3, first=3, salt=500)
    async with restarted.process:
        columns = await read(options, POINTS)
        # A number without a path is another namespace's by now: that is why browsing gives URIs.
        assert columns.quality.tolist() == [GOOD] * 3 + [lost, GOOD, lost]
        assert columns.value[[0, 1, 2, 4]].tolist() == [20, 100, 101, 20]
        async with followed(options, POINTS) as inbox:
            await inbox.until(lambda: inbox.series() == set(range(6)), "every point")
            await restarted.process.tell(put={"Room0.Temp": 5})
            await inbox.until_seen(0, 5.0)
            await inbox.until_seen(4, 5.0)
        assert (inbox.values(1)[-1], inbox.values(2)[-1]) == (100.0, 101.0)
