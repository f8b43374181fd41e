"""Points read before they are saved: each with its value, what its quality means, and its time."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from typing import Final

import numpy as np

from edge.field.looks import within
from edge.field.shown import Shown, shown_of
from edge.field.target import Target
from protocols.driver import Delivery, Driver, PointSource, Subscribing
from shared.columns import Columns
from shared.quality import Reason, reason_of

MAX_POINTS: Final = 64
"""Points that one look reads at most."""

READ_S: Final = 30.0
PUSHED_S: Final = 5.0
"""How long a device that tells values only when it likes is listened to."""


async def read_target(target: Target) -> list[Shown]:
    """Connect beside whatever runs, read up to 64 points once, and leave.

    Raises what the driver raises.
    """
    async with within(READ_S + PUSHED_S), target.beside() as driver:
        return await read_points(driver, target)


async def read_points(driver: Driver, target: Target) -> list[Shown]:
    """Read up to 64 points over an open connection; one that pushes is listened to for a while."""
    points = target.points[:MAX_POINTS]
    return shown_of(points, await read_once(driver, points))


async def read_once(driver: Driver, points: Sequence[PointSource]) -> Columns:
    """Read points once; those of a device that pushes are awaited for `PUSHED_S`."""
    plan = driver.plan(points)
    columns = await driver.read(plan)
    if isinstance(driver, Subscribing) and _untold(columns):
        columns = await _listened(driver.subscribe(plan, ()), columns)
    return columns


def _untold(columns: Columns) -> bool:
    return any(reason_of(int(one)) is Reason.NOT_YET_REPORTED for one in columns.quality)


async def _listened(deliveries: AsyncIterator[Delivery], columns: Columns) -> Columns:
    """Take what is pushed until every point was told or the time is over."""
    texts = dict(columns.texts)
    told = Columns(
        np.arange(len(columns), dtype=np.int32),
        columns.observed_at.copy(),
        columns.value.copy(),
        columns.quality.copy(),
        texts,
    )
    try:
        async with asyncio.timeout(PUSHED_S), aclosing(deliveries):  # type: ignore[type-var] # generators
            async for delivery in deliveries:
                _take(told, texts, delivery.columns)
                delivery.done()
                if not _untold(told):
                    break
    except TimeoutError:
        pass
    return told


def _take(told: Columns, texts: dict[int, str], pushed: Columns) -> None:
    for row, series in enumerate(pushed.series.tolist()):
        told.observed_at[series] = pushed.observed_at[row]
        told.value[series] = pushed.value[row]
        told.quality[series] = pushed.quality[row]
        texts.pop(series, None)
        if row in pushed.texts:
            texts[series] = pushed.texts[row]
