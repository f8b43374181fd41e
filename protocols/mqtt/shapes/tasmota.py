"""The shape of Tasmota: telemetry, states and results of a device, and its last will.

Source: "MQTT" and "JSON Status Responses" of its documentation.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from protocols.driver import Node
from protocols.mqtt.shapes.devices import About, Arrival, Devices
from protocols.mqtt.shapes.document import read
from protocols.mqtt.shapes.shape import Place, Publication, ShapeOptions, Update
from protocols.mqtt.shapes.times import from_iso, zone_called
from protocols.mqtt.shapes.units import unit_of
from shared.errors import OptionsWrong

TOPICS: Final = "%prefix%/%topic%"

_TELEMETRY: Final = frozenset({"SENSOR", "STATE"})
_WRAPPED: Final = {"STATUS8": "StatusSNS", "STATUS10": "StatusSNS", "STATUS11": "StatusSTS"}
_TIME: Final = "Time"
_UNITS_TOLD: Final = {
    "TempUnit": ("Temperature", "DewPoint", "HeatIndex"),
    "PressureUnit": ("Pressure", "SeaPressure"),
    "SpeedUnit": ("Speed",),
}
_UNITS: Final = {
    "Power": "W",
    "ApparentPower": "VA",
    "ReactivePower": "var",
    "Voltage": "V",
    "Current": "A",
    "Frequency": "Hz",
    "Total": "kWh",
    "Today": "kWh",
    "Yesterday": "kWh",
    "ExportActive": "kWh",
    "ExportReactive": "kvarh",
    "Temperature": "°C",
    "DewPoint": "°C",
    "HeatIndex": "°C",
    "Humidity": "%",
    "Pressure": "hPa",
    "SeaPressure": "hPa",
    "Illuminance": "lx",
    "CarbonDioxide": "ppm",
    "eCO2": "ppm",
    "TVOC": "ppb",
    "PM1": "µg/m³",
    "PM2.5": "µg/m³",
    "PM10": "µg/m³",
    "Distance": "cm",
    "RSSI": "%",
    "Signal": "dBm",
    "UptimeSec": "s",
    "LoadAvg": "%",
    "Heap": "kB",
}
_LAST_NAME: Final = re.compile(r'\["([^"]+)"\](?:\[\d+\])?$|([^.\[\]]+)(?:\[\d+\])?$')
_COMMAND: Final = re.compile(r"[A-Za-z]{1,30}\d{0,2}")
_POWER: Final = re.compile(r"POWER\d{0,2}")


class TasmotaShape:
    """Devices by their topic; a property is a path in what they tell, as `ENERGY.Power`, `POWER`.

    `base` is the order of topics where it was changed, as `%topic%/%prefix%`. A device tells local
    time without its zone: it counts where `zone` says which, else the arrival does.
    """

    def __init__(self, options: ShapeOptions) -> None:
        """Raises `OptionsWrong` for a zone or an order of topics that is none."""
        self._order = options.base.strip("/") or TOPICS
        if "%prefix%" not in self._order or "%topic%" not in self._order:
            msg = f"base {options.base!r} must hold %prefix% and %topic%, as {TOPICS}"
            raise OptionsWrong(msg)
        self._topic = _pattern(self._order)
        self._zone = zone_called(options.zone)
        self._devices = Devices()
        self._units: dict[str, dict[str, str]] = {}

    def filters(self, places: Sequence[Place]) -> Sequence[str]:
        """Subscribe to telemetry and states of the devices that have points, else of all."""
        devices = self._devices.want(places)
        return [
            self._named(prefix, device) + "/#"
            for device in devices or ["+"]
            for prefix in ("tele", "stat")
        ]

    def feed(self, topic: str, payload: bytes, *, is_retained: bool) -> Iterable[Update]:
        """Tell what a message says."""
        found = self._topic.fullmatch(topic)
        if found is None:
            return ()
        device, kind = found["topic"], found["kind"]
        if kind == "LWT":
            is_there = {b"Online": True, b"Offline": False}.get(payload)
            told = () if is_there is None else self._devices.be(device, is_there=is_there)
            return list(told)
        if _POWER.fullmatch(kind):
            state = Place(device, kind)
            text = payload.decode(errors="replace")
            return list(self._devices.tell_one(state, text, Arrival(is_retained)))
        return list(self._document(device, kind, read(payload), is_retained))

    def answers(self) -> Sequence[Publication]:
        """Ask for nothing."""
        return ()

    def command(self, place: Place, value: bool | float | str) -> Publication:
        """Make the command of the same name, as `POWER`, `Dimmer` or `TelePeriod`."""
        if not _COMMAND.fullmatch(place.property):
            msg = f"{place.property!r} is no command of Tasmota: write POWER, POWER2, Dimmer, …"
            raise OptionsWrong(msg)
        told = ("ON" if value else "OFF") if isinstance(value, bool) else value
        text = f"{told:.12g}" if isinstance(told, int | float) else told
        return Publication(f"{self._named('cmnd', place.device)}/{place.property}", text.encode())

    def proposals(self) -> Iterator[Node]:
        """List what devices told, with the units that are usual or told."""
        yield from self._devices.proposals(self._about)

    def _named(self, prefix: str, device: str) -> str:
        return self._order.replace("%prefix%", prefix).replace("%topic%", device)

    def _document(
        self, device: str, kind: str, document: Any, is_retained: bool
    ) -> Iterator[Update]:
        if isinstance(document, dict) and kind in _WRAPPED:
            document = document.get(_WRAPPED[kind])
        elif kind not in _TELEMETRY | {"RESULT"}:
            return
        if not isinstance(document, dict):
            return
        self._learn(device, document)
        told = document.get(_TIME)
        at_us = from_iso(told, self._zone)
        arrival = Arrival(is_retained, at_us, told is not None and at_us is None)
        values = {name: part for name, part in document.items() if name not in _NO_VALUES}
        yield from self._devices.tell(device, values, arrival)

    def _learn(self, device: str, document: Mapping[str, Any]) -> None:
        for name, quantities in _UNITS_TOLD.items():
            unit = unit_of(document.get(name))
            if unit:
                units = self._units.setdefault(device, {})
                units.update(dict.fromkeys(quantities, unit))

    def _about(self, place: Place) -> About:
        found = _LAST_NAME.search(place.property)
        name = (found[1] or found[2]) if found is not None else ""
        unit = self._units.get(place.device, {}).get(name) or _UNITS.get(name, "")
        return About(unit, is_writable=bool(_POWER.fullmatch(place.property)))


_NO_VALUES: Final = frozenset({_TIME, *_UNITS_TOLD})


def _pattern(order: str) -> re.Pattern[str]:
    text = re.escape(order).replace("%prefix%", "(?:tele|stat)", 1)
    return re.compile(text.replace("%topic%", "(?P<topic>.+)", 1) + "/(?P<kind>[^/]+)")


def make(options: ShapeOptions) -> TasmotaShape:
    """Make the shape for one connection."""
    return TasmotaShape(options)
