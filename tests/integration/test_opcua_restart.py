"""A server that comes back with other namespace numbers and other ids."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import anyio
import pytest

from edge.collector import Collector, DeviceTask
from edge.intake import Intake
from edge.recovery import open_outbox
from edge.settings import Device, OutboxSection
from protocols.driver import PointSource
from protocols.opcua import driver_type
from protocols.opcua.options import OpcuaDevice
from shared.clock import SystemClock
from shared.model import Point, PointSet
from shared.quality import GOOD, Reason, bad
from tests.servers.node_opcua import NAMESPACE, NodeOpcua
from tests.servers.opcua_points import read, source
from tests.servers.ports import ports_in_a_row

pytestmark = pytest.mark.integration

ROOM: Final = source(node=f"nsu={NAMESPACE};s=Room0.Temp")
PUMP: Final = source(node=f"nsu={NAMESPACE};i=9000", path="/Objects/Plant/Pump")
FAN: Final = source(path="/Objects/Plant/Fan")
BY_NUMBER: Final = source(node="ns=2;s=Room0.Temp")
NUMBER_WITH_PATH: Final = source(node="ns=2;s=Room0.Temp", path="/Objects/Building/Room0.Temp")
NOWHERE: Final = source(node=f"nsu={NAMESPACE};i=77", path="/Objects/Plant/Turbine")
POINTS: Final = [ROOM, PUMP, FAN, BY_NUMBER, NUMBER_WITH_PATH, NOWHERE]


DEADLINE_S: Final = 90.0  # a collector that tries again waits up to 30 s
LOST: Final = bad(Reason.WRONG_ADDRESS)


@asynccontextmanager
async def collecting(folder: Path, options: OpcuaDevice) -> AsyncIterator[DeviceTask]:
    """Let a collector follow the points as a gateway does; gives the device's task."""
    clock, section = SystemClock(), OutboxSection()
    points = tuple(PointSource(Point(f"plant/{at}"), one.options) for at, one in enumerate(POINTS))
    device = Device("plant", driver_type(), 0.1, options, points)
    outbox, _ = await open_outbox(
        folder, PointSet(tuple(one.point for one in points)), clock, section
    )
    await outbox.begin(1)
    intake = Intake(outbox, section, clock)
    collector = Collector((device,), intake, clock, seed=1)
    running = [asyncio.ensure_future(one) for one in (intake.run(), collector.run())]
    try:
        (task,) = collector.tasks
        yield task
    finally:
        for one in running:
            one.cancel()
        await asyncio.wait(running)
        await outbox.close()


def told(task: DeviceTask) -> dict[str, tuple[float, int]]:
    return {one.key: (one.value, one.quality) for one in task.live.values()}


async def until_reading(task: DeviceTask, value: float) -> None:
    """Wait until the room's value came by its URI, and by its path."""
    with anyio.fail_after(DEADLINE_S):
        while any(  # noqa: ASYNC110 - live values have no event of their own
            told(task).get(f"plant/{at}", (0.0, 0))[0] != value for at in (0, 4)
        ):
            await anyio.sleep(0.02)


async def test_points_are_found_again_after_a_restart_with_other_ids(tmp_path: Path) -> None:
    port = ports_in_a_row(1)
    options = OpcuaDevice(
        url=f"opc.tcp://127.0.0.1:{port}/UA/spine",
        timeout_s=10,
        publishing_interval_ms=50,
        keepalive_s=0.5,
    )
    before, after = (tmp_path / name for name in ("before", "after"))
    before.mkdir()
    after.mkdir()
    (tmp_path / "outbox").mkdir()
    async with collecting(tmp_path / "outbox", options) as task:
        async with NodeOpcua(port, before, nodes=3).process:
            columns = await read(options, POINTS)
            assert columns.quality.tolist() == [GOOD] * 5 + [LOST]
            assert columns.value[:5].tolist() == [20, 100, 101, 20, 20]
            await until_reading(task, 20.0)
        restarted = NodeOpcua(port, after, nodes=3, first=3, salt=500)
        async with restarted.process:
            columns = await read(options, POINTS)
            # A number without a path is another namespace's now: that is why browsing gives URIs.
            assert columns.quality.tolist() == [GOOD] * 3 + [LOST, GOOD, LOST]
            assert columns.value[[0, 1, 2, 4]].tolist() == [20, 100, 101, 20]
            await restarted.process.tell(put={"Room0.Temp": 5})
            await until_reading(task, 5.0)
            assert told(task)["plant/1"] == (100.0, GOOD)
            assert told(task)["plant/2"] == (101.0, GOOD)
            assert told(task)["plant/3"][1] == LOST
        assert task.errors >= 1
