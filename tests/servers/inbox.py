"""Follows what a driver pushes for as long as a block runs."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from protocols.driver import PointSource
from protocols.testing.rig import Inbox


@asynccontextmanager
async def following(driver: Any, points: Sequence[PointSource]) -> AsyncIterator[Inbox]:
    """Consume the driver's subscription; it ends with the block."""
    inbox = Inbox(done=True)
    pushed = driver.subscribe(driver.plan(points), ())
    task = asyncio.ensure_future(inbox.consume(pushed))
    try:
        yield inbox
    finally:
        task.cancel()
        await asyncio.wait([task])
        await pushed.aclose()
