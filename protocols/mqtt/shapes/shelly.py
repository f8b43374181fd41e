"""The shape of Shelly, Gen1 (a number a topic) and Gen2 and newer (JSON a component).

Source: the API documentation of both. Gen1 publishes below `shellies/NAME`, Gen2 below a prefix
that is set in the device, often `shellies/NAME` too: the rest of the topic tells them apart.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from protocols.driver import Node
from protocols.mqtt.shapes.devices import About, Arrival, Devices
from protocols.mqtt.shapes.document import path_of, read
from protocols.mqtt.shapes.shape import Place, Publication, ShapeOptions, Update
from protocols.mqtt.shapes.shelly_units import unit_of
from protocols.mqtt.shapes.times import from_seconds
from shared.errors import OptionsWrong

GEN1: Final = "shellies"

_TOPIC: Final = re.compile(
    r"(?P<device>.+?)/(?:(?P<online>online)|(?P<rpc>events/rpc)|status/(?P<component>[^/]+)"
    r"|(?P<own>(?:relay|roller|light|white|color|meter|emeter|input|input_event|longpush|adc"
    r"|ext_temperatures|ext_humidities|ext_switches|sensor)/.+"
    r"|temperature|temperature_f|overtemperature|temperature_status|voltage))"
)
_SWITCH: Final = re.compile(r"((?:switch|light):\d+)\.output")
_RELAY: Final = re.compile(r"((?:relay|light)/\d+)")
_COMMAND: Final = "command"


class ShellyShape:
    """Devices by their name; a property is `switch:0.apower` (Gen2) or `relay/0/power` (Gen1)."""

    def __init__(self, options: ShapeOptions) -> None:
        self._base = options.base.strip("/")
        self._devices = Devices()
        self._sleepers: set[str] = set()
        self._below_gen1: set[str] = set()

    def filters(self, places: Sequence[Place]) -> Sequence[str]:
        """Subscribe to the devices that have points, else to all, with either kind of prefix."""
        devices = self._devices.want(places)
        for device in devices:
            if not self._base and device.startswith(f"{GEN1}/"):
                msg = f"{device!r}: name the device without {GEN1}/"
                raise OptionsWrong(msg)
        if self._base:
            return [one for device in devices or ["+"] for one in _below(f"{self._base}/{device}")]
        gen1 = [f"{GEN1}/{device}/#" for device in devices] or [f"{GEN1}/#"]
        return [*gen1, *(one for device in devices or ["+"] for one in _below(device))]

    def feed(self, topic: str, payload: bytes, *, is_retained: bool) -> Iterable[Update]:
        """Tell what a message says."""
        found = _TOPIC.fullmatch(topic)
        if found is None or topic.endswith(f"/{_COMMAND}"):
            return ()
        device = self._device(found["device"])
        if found["online"]:
            return list(self._presence(device, payload))
        if found["rpc"]:
            return list(self._notification(device, read(payload), is_retained))
        if found["own"]:
            return list(self._plain(Place(device, found["own"]), payload, is_retained))
        return list(self._status(device, {found["component"]: read(payload)}, Arrival(is_retained)))

    def answers(self) -> Sequence[Publication]:
        """Ask for nothing."""
        return ()

    def command(self, place: Place, value: bool | float | str) -> Publication:
        """Switch a relay or a light on or off."""
        gen1, gen2 = _RELAY.fullmatch(place.property), _SWITCH.fullmatch(place.property)
        if (gen1 is None and gen2 is None) or value not in {0, 1}:
            msg = f"{place.property!r}: only switches and lights are written, with 0 or 1"
            raise OptionsWrong(msg)
        prefix = f"{self._base}/" if self._base else ""
        if not self._base and (gen1 is not None or place.device in self._below_gen1):
            prefix = f"{GEN1}/"
        end = f"{gen1[1]}/{_COMMAND}" if gen1 is not None else f"{_COMMAND}/{_part(gen2)}"
        return Publication(f"{prefix}{place.device}/{end}", b"on" if value else b"off")

    def proposals(self) -> Iterator[Node]:
        """List what devices told."""
        yield from self._devices.proposals(_about)

    def _device(self, prefix: str) -> str:
        base = self._base or GEN1
        device = prefix.removeprefix(f"{base}/")
        if device != prefix and not self._base:
            self._below_gen1.add(device)
        return device

    def _presence(self, device: str, payload: bytes) -> Iterator[Update]:
        is_there = {b"true": True, b"false": False}.get(payload.strip().lower())
        if is_there is None or (device in self._sleepers and not is_there):
            return  # one that runs on a battery is away most of the time
        yield from self._devices.be(device, is_there=is_there)

    def _notification(self, device: str, document: Any, is_retained: bool) -> Iterator[Update]:
        params = document.get("params") if isinstance(document, dict) else None
        if not isinstance(params, dict):
            return
        at_us = from_seconds(params.get("ts"))
        arrival = Arrival(is_retained, at_us, "ts" in params and at_us is None)
        if document.get("method") in {"NotifyStatus", "NotifyFullStatus"}:
            yield from self._status(device, params, arrival)
        elif document.get("method") == "NotifyEvent":
            yield from self._events(device, params.get("events"), arrival)

    def _status(
        self, device: str, components: Mapping[str, Any], arrival: Arrival
    ) -> Iterator[Update]:
        system = components.get("sys")
        if isinstance(system, dict) and system.get("wakeup_period"):
            self._sleepers.add(device)
        told = {name: part for name, part in components.items() if isinstance(part, dict)}
        yield from self._devices.tell(device, told, arrival)

    def _events(self, device: str, events: Any, arrival: Arrival) -> Iterator[Update]:
        for one in events if isinstance(events, list) else ():
            component, name = (
                (one.get("component"), one.get("event")) if isinstance(one, dict) else (None, None)
            )
            if isinstance(component, str) and isinstance(name, str) and component:
                place = Place(device, path_of(component, "event"))
                yield from self._devices.tell_one(place, name, arrival)

    def _plain(self, place: Place, payload: bytes, is_retained: bool) -> Iterator[Update]:
        if place.property == "sensor/battery":
            self._sleepers.add(place.device)
        document = read(payload)
        if isinstance(document, dict | list):
            yield from self._devices.tell(
                place.device, document, Arrival(is_retained), place.property
            )
            return
        text = payload.decode(errors="replace")
        value = document if type(document) in {int, float} else text
        told = None if text in {"", "null"} else value
        yield from self._devices.tell_one(place, told, Arrival(is_retained))


def _below(device: str) -> Sequence[str]:
    if device.startswith(f"{GEN1}/"):
        return [f"{device}/#"]
    return [f"{device}/{end}" for end in ("online", "events/rpc", "status/+")]


def _part(found: re.Match[str] | None) -> str:
    return found[1] if found is not None else ""


def _about(place: Place) -> About:
    is_switch = bool(_SWITCH.fullmatch(place.property) or _RELAY.fullmatch(place.property))
    return About(unit_of(place.property), is_writable=is_switch)


def make(options: ShapeOptions) -> ShellyShape:
    """Make the shape for one connection."""
    return ShellyShape(options)
