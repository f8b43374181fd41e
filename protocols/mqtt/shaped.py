"""Points of known device shapes: a shape reads the messages, and points take what it tells."""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import Self

from protocols.driver import PointSource
from protocols.mqtt.codec import Arrival, Rows
from protocols.mqtt.options import MqttDevice, MqttPoint
from protocols.mqtt.scalar import Scale, fitted
from protocols.mqtt.shapes import Place, Shape, ShapeOptions, Update, find
from shared.errors import OptionsWrong
from shared.model import PointType
from shared.quality import Reason

_Taker = tuple[int, PointType, Scale | None]


class Shaped:
    """The shape of a device and the points it feeds."""

    def __init__(self, shape: Shape, takers: dict[Place, list[_Taker]]) -> None:
        """Ask the shape what to subscribe; raises `OptionsWrong`."""
        self.shape = shape
        self.filters = tuple(shape.filters(tuple(takers))) if takers else ()
        self._takers = takers
        self._places: defaultdict[str, list[Place]] = defaultdict(list)
        for place in takers:
            self._places[place.device].append(place)

    @classmethod
    def of(
        cls, points: Sequence[PointSource], sources: Sequence[MqttPoint], options: MqttDevice
    ) -> Self | None:
        """Find the shaped points; None if the device has no shape. Raises `OptionsWrong`."""
        takers: defaultdict[Place, list[_Taker]] = defaultdict(list)
        for series, (source, point) in enumerate(zip(points, sources, strict=True)):
            if not point.device:
                continue
            if options.shape is None:
                msg = f"{source.point.key}: device and property need the broker's option shape"
                raise OptionsWrong(msg)
            taker = series, source.point.type, point.scaling()
            takers[Place(point.device, point.property)].append(taker)
        return None if options.shape is None else cls(shape_of(options), dict(takers))

    def hear(self, topic: str, payload: bytes, arrival: Arrival, rows: Rows) -> None:
        """Append what a message says of the points."""
        for update in self.shape.feed(topic, payload, is_retained=arrival.is_retained):
            self._tell(update, arrival, rows)

    def deny(self, arrival: Arrival, rows: Rows) -> None:
        """Append a bad reading for every point: the broker refused what the shape needs."""
        for device in self._places:
            denied = Update(device, None, reason=Reason.ACCESS_DENIED)
            self._tell(denied, arrival, rows)

    def _tell(self, update: Update, arrival: Arrival, rows: Rows) -> None:
        device, name = update.device, update.property
        places = self._places.get(device, ()) if name is None else (Place(device, name),)
        if update.value is not None and update.reason is not Reason.NONE:
            arrival = replace(arrival, doubt=update.reason)
        for place in places:
            for series, kind, scale in self._takers.get(place, ()):
                told = (
                    (math.nan, update.reason or Reason.NOT_YET_REPORTED)
                    if update.value is None
                    else fitted(update.value, kind, scale)
                )
                rows.tell(series, told, arrival, update.observed_at, adjusts=update.is_time_lost)


def shape_of(options: MqttDevice) -> Shape:
    """Make the shape that a device's options name; raises `OptionsWrong`."""
    if options.shape is None:
        msg = f"{options.address}: has no shape"
        raise OptionsWrong(msg)
    return find(options.shape, ShapeOptions(options.base, options.group, options.zone))
