"""Points of OPC UA servers of others, and short ways to read, write and follow them."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

from protocols.driver import PointSource
from protocols.opcua.driver import OpcuaDriver
from protocols.opcua.options import OpcuaDevice, OpcuaPoint
from protocols.testing.rig import Inbox
from shared.columns import Columns
from shared.model import Point, PointType

HELLO: Final = "nsu=urn:eclipse:milo:hello-world;s=HelloWorld"
"""What the ids of Milo's example nodes begin with."""


def source(kind: PointType = PointType.NUMBER, **options: Any) -> PointSource:
    return PointSource(Point("point", type=kind), OpcuaPoint.model_validate(options))


def sources(*nodes: str) -> list[PointSource]:
    return [PointSource(Point(node), OpcuaPoint(node=node)) for node in nodes]


async def read(options: OpcuaDevice, points: Sequence[PointSource]) -> Columns:
    driver = OpcuaDriver(options)
    async with driver:
        return await driver.read(driver.plan(points))


@asynccontextmanager
async def followed(options: OpcuaDevice, points: Sequence[PointSource]) -> AsyncIterator[Inbox]:
    """Subscribe for as long as the block runs."""
    inbox, driver = Inbox(done=True), OpcuaDriver(options)
    async with driver:
        task = asyncio.ensure_future(inbox.consume(driver.subscribe(driver.plan(points), ())))
        try:
            yield inbox
        finally:
            task.cancel()
            await asyncio.wait([task])
