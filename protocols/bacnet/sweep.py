"""One read of points: several at once with status flags, as many as the device can answer."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from protocols.bacnet import codec
from protocols.bacnet.changes import Row
from protocols.bacnet.client import Client, Property, Rejection
from protocols.bacnet.options import BacnetPoint
from protocols.driver import PointSource
from shared.model import PointType

_STATUS: Final = "status-flags"


@dataclass(slots=True)
class Plan:
    """What is asked for; `portion` points at once, fewer when the device could not answer so many.

    It outlives a reconnect, and with it what was learned.
    """

    properties: list[Property]
    types: list[PointType]
    portion: int
    sources: Sequence[PointSource] = field(default=())


async def read_rows(client: Client, plan: Plan, rows: Sequence[int]) -> list[Row]:
    """Read the points of these rows, in their order; raises `LinkLost`."""
    answers: list[tuple[Any, Any]] = []
    while len(answers) < len(rows):
        part = rows[len(answers) : len(answers) + plan.portion]
        answers += await _portion(client, plan, [plan.properties[row] for row in part])
    return [
        (row, _reading(found, flags, plan.types[row]))
        for row, (found, flags) in zip(rows, answers, strict=True)
    ]


def property_of(point: BacnetPoint) -> Property:
    """Name the property that a point is."""
    return Property(point.object, point.instance, point.property, point.index)


async def _portion(
    client: Client, plan: Plan, portion: Sequence[Property]
) -> list[tuple[Any, Any]]:
    asked = [one for wanted in portion for one in (wanted, _status(wanted))]
    try:
        values = await client.read_many(asked)
    except Rejection as error:
        if len(portion) > 1:
            plan.portion = max(1, min(plan.portion, len(portion)) // 2)
            half = len(portion) // 2
            return [
                *await _portion(client, plan, portion[:half]),
                *await _portion(client, plan, portion[half:]),
            ]
        return [await _alone(client, portion[0], error)]
    return list(zip(values[::2], values[1::2], strict=True))


async def _alone(client: Client, wanted: Property, error: Rejection) -> tuple[Any, Any]:
    """Read one property by the plain service, which every device has."""
    try:
        value = await client.read(wanted)
    except Rejection as refused:
        return refused, error
    try:
        return value, await client.read(_status(wanted))
    except Rejection as refused:
        return value, refused


def _status(wanted: Property) -> Property:
    return Property(wanted.object, wanted.instance, _STATUS)


def _reading(found: Any, flags: Any, kind: PointType) -> codec.Read:
    if isinstance(found, Rejection):
        return math.nan, None, codec.refusal(found.word)
    return codec.reading(found, None if isinstance(flags, Rejection) else flags, kind)
