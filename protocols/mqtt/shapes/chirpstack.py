"""The shape of ChirpStack v4: LoRaWAN devices, whose values its codec puts into `object`.

Source: "Integrations", "MQTT" and "Events" of its documentation.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Final

from protocols.driver import Node
from protocols.mqtt.shapes.devices import About, Arrival, Devices
from protocols.mqtt.shapes.document import read
from protocols.mqtt.shapes.shape import Place, Publication, ShapeOptions, Update
from protocols.mqtt.shapes.times import from_iso
from shared.errors import OptionsWrong
from shared.quality import Reason

REMEMBERED: Final = 2_000
"""How many events are remembered, so that one that comes twice is read once."""

_TOPIC: Final = re.compile(
    r"(?:.+/)?application/[^/]+/device/(?P<device>[^/]+)/event/(?P<event>up|status)"
)
_OBJECT: Final = "object"
_ON_PORT: Final = re.compile(r".+@(?P<port>\d{1,3})")
_UPLINK: Final = ("object", "rxInfo", "fCnt", "fPort", "dr", "adr")
_STATUS: Final = ("margin", "batteryLevel", "externalPowerSource", "batteryLevelUnavailable")
_UNITS: Final = {
    "rxInfo[0].rssi": "dBm",
    "rxInfo[0].snr": "dB",
    "status.batteryLevel": "%",
    "status.margin": "dB",
}


class ChirpStackShape:
    """Devices by their DevEUI; a property is a path in the event, as `object.temperature`.

    `object.temperature@85` is the same from port 85 alone. That a device is gone tells nobody: the
    points of one fall silent.
    """

    def __init__(self, options: ShapeOptions) -> None:
        self._base = f"{options.base.strip('/')}/" if options.base.strip("/") else ""
        self._group = options.group or "+"
        self._devices = Devices()
        self._known: dict[str, None] = {}

    def filters(self, places: Sequence[Place]) -> Sequence[str]:
        """Subscribe to uplinks and states of the devices that have points, else of all."""
        plain = [replace(one, property=one.property.partition("@")[0]) for one in places]
        devices = self._devices.want([*places, *plain])
        return [
            f"{self._base}application/{self._group}/device/{device}/event/{event}"
            for device in devices or ["+"]
            for event in ("up", "status")
        ]

    def feed(self, topic: str, payload: bytes, *, is_retained: bool) -> Iterable[Update]:
        """Tell what an event says; one that came before, by its deduplication id, says nothing."""
        found = _TOPIC.fullmatch(topic)
        if found is None:
            return ()
        device, event = found["device"], read(payload)
        if not isinstance(event, dict):
            return list(self._unread(device, "", Reason.BAD_PAYLOAD))
        if self._is_repeat(event.get("deduplicationId")):
            return ()
        at_us = from_iso(event.get("time"))
        arrival = Arrival(is_retained, at_us, at_us is None)
        if found["event"] == "status":
            said = {name: event[name] for name in _STATUS if name in event}
            return list(self._devices.tell(device, said, arrival, "status"))
        return list(self._uplink(device, event, arrival))

    def answers(self) -> Sequence[Publication]:
        """Ask for nothing."""
        return ()

    def command(self, place: Place, value: bool | float | str) -> Publication:
        """Refuse: a downlink waits until the device sends, perhaps for hours, and does not expire.

        Raises `OptionsWrong`.
        """
        msg = f"{place.device}: a LoRaWAN downlink may arrive hours later: it is not written"
        raise OptionsWrong(msg)

    def proposals(self) -> Iterator[Node]:
        """List what devices told."""
        yield from self._devices.proposals(lambda place: About(_UNITS.get(place.property, "")))

    def _uplink(self, device: str, event: dict[str, Any], arrival: Arrival) -> Iterator[Update]:
        said = {name: event[name] for name in _UPLINK if name in event}
        port = event.get("fPort")
        if event.get("data") and not isinstance(event.get(_OBJECT), dict):
            yield from self._unread(device, f"{_OBJECT}.", Reason.NOT_IMPLEMENTED, port)
        for update in self._devices.tell(device, said, arrival):
            yield update
            yield replace(update, property=f"{update.property}@{port}")

    def _unread(
        self, device: str, prefix: str, reason: Reason, port: object = None
    ) -> Iterator[Update]:
        """Say that nothing could be read: without a codec an uplink is only bytes."""
        for name in self._devices.wanted(device):
            found = _ON_PORT.fullmatch(name)
            if name.startswith(prefix) and (found is None or found["port"] == str(port)):
                yield Update(device, name, None, reason)

    def _is_repeat(self, name: Any) -> bool:
        if not isinstance(name, str):
            return False
        is_known = name in self._known
        self._known[name] = None
        if len(self._known) > REMEMBERED:
            del self._known[next(iter(self._known))]
        return is_known


def make(options: ShapeOptions) -> ChirpStackShape:
    """Make the shape for one connection."""
    return ChirpStackShape(options)
