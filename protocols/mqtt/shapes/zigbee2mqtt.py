"""The shape of Zigbee2MQTT: a JSON object a device, and a list of what each device exposes.

Source: "MQTT Topics and Messages" and "Exposes" of its documentation.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from protocols.driver import Node
from protocols.mqtt.shapes.devices import About, Arrival, Devices
from protocols.mqtt.shapes.document import path_of, read
from protocols.mqtt.shapes.shape import Place, Publication, Scalar, ShapeOptions, Update
from protocols.mqtt.shapes.times import from_iso, from_seconds
from protocols.mqtt.shapes.units import unit_of
from shared.errors import OptionsWrong
from shared.model import PointType

BASE: Final = "zigbee2mqtt"
MAX_EXPOSED: Final = 50_000
MAX_DEPTH: Final = 4

_BRIDGE: Final = "bridge/"
_AVAILABILITY: Final = "/availability"
_REQUESTS: Final = ("/set", "/get")
_LAST_SEEN: Final = "last_seen"
_SETTABLE: Final = 2
_SWITCHED: Final = ({"on", "off"}, {"true", "false"})


@dataclass(frozen=True, slots=True)
class Exposed:
    """What a device says that it has: how it is shown, and the values of a binary."""

    about: About
    on: Scalar = True
    off: Scalar = False


class Zigbee2MqttShape:
    """Devices by their friendly name; a property is a path, as `color.hue`."""

    def __init__(self, options: ShapeOptions) -> None:
        self._base = options.base or BASE
        self._devices = Devices()
        self._exposed: dict[Place, Exposed] = {}

    def filters(self, places: Sequence[Place]) -> Sequence[str]:
        """Subscribe to the devices that have points, else to all; and to the bridge."""
        devices = self._devices.want(places)
        if not devices:
            return [f"{self._base}/#"]
        ends = ("", _AVAILABILITY)
        named = [f"{self._base}/{device}{end}" for device in devices for end in ends]
        return [*named, f"{self._base}/bridge/state", f"{self._base}/bridge/devices"]

    def feed(self, topic: str, payload: bytes, *, is_retained: bool) -> Iterable[Update]:
        """Tell what a message says."""
        device = topic.removeprefix(f"{self._base}/")
        if device == topic or device.endswith(_REQUESTS):
            return ()
        if device.startswith(_BRIDGE):
            return list(self._bridge(device.removeprefix(_BRIDGE), payload))
        if device.endswith(_AVAILABILITY):
            is_there = _is_online(payload)
            return list(
                ()
                if is_there is None
                else self._devices.be(device.removesuffix(_AVAILABILITY), is_there=is_there)
            )
        return list(self._state(device, read(payload), is_retained))

    def answers(self) -> Sequence[Publication]:
        """Ask for nothing."""
        return ()

    def command(self, place: Place, value: bool | float | str) -> Publication:
        """Set a property: the object that holds it, with all else left out."""
        path, _, name = place.property.rpartition(".")
        if "[" in place.property or "." in path:
            msg = f"{place.property!r} cannot be written: it is no property, nor one of a property"
            raise OptionsWrong(msg)
        told: Any = {name: self._meant(place, value)}
        document = {path: told} if path else told
        return Publication(f"{self._base}/{place.device}/set", json.dumps(document).encode())

    def proposals(self) -> Iterator[Node]:
        """List what devices told, with units and types as they expose them."""
        yield from self._devices.proposals(self._about)

    def _about(self, place: Place) -> About:
        exposed = self._exposed.get(place)
        return exposed.about if exposed is not None else About()

    def _meant(self, place: Place, value: bool | float | str) -> Scalar:
        if not isinstance(value, bool):
            return value
        exposed = self._exposed.get(place)
        if exposed is not None and not isinstance(exposed.on, bool):  # a contact is on when false
            return exposed.on if value else exposed.off
        if isinstance(self._devices.last(place), str):
            return "ON" if value else "OFF"
        return value

    def _state(self, device: str, document: Any, is_retained: bool) -> Iterator[Update]:
        if not isinstance(document, dict):
            return
        seen = document.get(_LAST_SEEN)
        at_us = from_iso(seen)
        if at_us is None and isinstance(seen, int | float):
            at_us = from_seconds(seen / 1_000)
        is_time_lost = seen is not None and at_us is None
        yield from self._devices.tell(device, document, Arrival(is_retained, at_us, is_time_lost))

    def _bridge(self, name: str, payload: bytes) -> Iterator[Update]:
        if name == "state" and _is_online(payload) is False:
            yield from self._devices.all_down()
        elif name == "devices":
            self._learn(read(payload))

    def _learn(self, listed: Any) -> None:
        for one in listed if isinstance(listed, list) else ():
            if isinstance(one, dict) and isinstance(one.get("definition"), dict):
                device = one.get("friendly_name")
                exposes = one["definition"].get("exposes")
                if isinstance(device, str):
                    self._expose(device, "", exposes, MAX_DEPTH)

    def _expose(self, device: str, prefix: str, exposes: Any, depth: int) -> None:
        for one in exposes if isinstance(exposes, list) else ():
            if not isinstance(one, dict):
                continue
            name = one.get("property")
            path = path_of(prefix, name) if isinstance(name, str) else prefix
            if "features" in one:
                if depth:
                    self._expose(device, path, one["features"], depth - 1)
            elif path and len(self._exposed) < MAX_EXPOSED:
                self._exposed[Place(device, path)] = _exposed(one)


def _exposed(one: dict[str, Any]) -> Exposed:
    on, off = one.get("value_on", True), one.get("value_off", False)
    access, description = one.get("access"), one.get("description")
    about = About(
        unit_of(one.get("unit")),
        _kind(one.get("type"), on, off),
        isinstance(access, int) and bool(access & _SETTABLE),
        description[:200] if isinstance(description, str) else "",
    )
    return Exposed(about, on, off)


def _kind(told: Any, on: Any, off: Any) -> PointType | None:
    if told == "numeric":
        return PointType.NUMBER
    if told == "binary" and {str(on).lower(), str(off).lower()} in _SWITCHED:
        return PointType.BOOLEAN
    return PointType.TEXT if told in {"binary", "enum", "text"} else None


def _is_online(payload: bytes) -> bool | None:
    """Read an availability: a word, or an object that holds it; None if it is neither."""
    document = read(payload)
    word: Any = document.get("state") if isinstance(document, dict) else payload.strip()
    return {"online": True, b"online": True, "offline": False, b"offline": False}.get(
        word if isinstance(word, str | bytes) else ""
    )


def make(options: ShapeOptions) -> Zigbee2MqttShape:
    """Make the shape for one connection."""
    return Zigbee2MqttShape(options)
