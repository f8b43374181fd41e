"""The shape of ESPHome: a plain text a topic, and a word for whether the node is there.

Source: "MQTT Client Component" of its documentation.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from protocols.driver import Node
from protocols.mqtt.shapes.devices import About, Arrival, Devices
from protocols.mqtt.shapes.document import read
from protocols.mqtt.shapes.shape import Place, Publication, ShapeOptions, Update
from protocols.mqtt.shapes.units import unit_of
from shared.errors import OptionsWrong
from shared.model import PointType
from shared.quality import Reason

MAX_DISCOVERED: Final = 20_000

_DISCOVERY: Final = "homeassistant/"
_STATE: Final = re.compile(
    r"(?P<device>.+)/(?P<property>(?P<domain>sensor|binary_sensor|switch|light|fan|cover|climate"
    r"|number|select|text_sensor|text|lock|valve|button|event|update|datetime|alarm_control_panel)"
    r"/[^/]+(?:/[^/]+)*?)/state"
)
_STATUS: Final = re.compile(r"(?P<device>.+)/status")
_NUMBERS: Final = frozenset({"sensor", "number"})
_SWITCHED: Final = frozenset({"switch", "binary_sensor"})
_WRITTEN: Final = frozenset({"switch", "number", "select", "text", "light", "fan"})


class EspHomeShape:
    """Nodes by their topic prefix; a property is `sensor/temperature`, or `light/desk.brightness`.

    Home Assistant's discovery messages, where they are seen, tell units.
    """

    def __init__(self, options: ShapeOptions) -> None:
        self._base = f"{options.base.strip('/')}/" if options.base.strip("/") else ""
        self._devices = Devices()
        self._units: dict[Place, str] = {}

    def filters(self, places: Sequence[Place]) -> Sequence[str]:
        """Subscribe to the states of the nodes that have points, else of all, and to discovery."""
        devices = self._devices.want(places)
        ends = ("status", "+/+/state", "+/+/+/state")
        named = [f"{self._base}{device}/{end}" for device in devices or ["+"] for end in ends]
        return named if devices else [*named, f"{_DISCOVERY}#"]

    def feed(self, topic: str, payload: bytes, *, is_retained: bool) -> Iterable[Update]:
        """Tell what a message says."""
        if topic.startswith(_DISCOVERY):
            self._learn(read(payload))
            return ()
        state, status = _STATE.fullmatch(topic), _STATUS.fullmatch(topic)
        found = state or status
        if found is None or not topic.startswith(self._base):
            return ()
        device = found["device"].removeprefix(self._base)
        if state is None:
            is_there = {b"online": True, b"offline": False}.get(payload)
            told = () if is_there is None else self._devices.be(device, is_there=is_there)
            return list(told)
        place = Place(device, state["property"])
        return list(self._state(place, state["domain"], payload, Arrival(is_retained)))

    def answers(self) -> Sequence[Publication]:
        """Ask for nothing."""
        return ()

    def command(self, place: Place, value: bool | float | str) -> Publication:
        """Make the message on the command topic beside the state."""
        domain = place.property.partition("/")[0]
        if domain not in _WRITTEN or place.property.count("/") != 1 or "." in place.property:
            msg = f"{place.property!r} cannot be written; these can: {', '.join(sorted(_WRITTEN))}"
            raise OptionsWrong(msg)
        told = ("ON" if value else "OFF") if isinstance(value, bool) else value
        text = f"{told:.12g}" if isinstance(told, int | float) else told
        if domain == "light":
            text = f'{{"state": "{"ON" if text in {"ON", "1"} else "OFF"}"}}'
        return Publication(f"{self._base}{place.device}/{place.property}/command", text.encode())

    def proposals(self) -> Iterator[Node]:
        """List what nodes told."""
        yield from self._devices.proposals(self._about)

    def _state(
        self, place: Place, domain: str, payload: bytes, arrival: Arrival
    ) -> Iterator[Update]:
        document = read(payload)
        if isinstance(document, dict):
            yield from self._devices.tell(place.device, document, arrival, place.property)
            return
        text = payload.decode(errors="replace")
        if domain in _NUMBERS and text.strip().lower() == "nan":  # how a sensor says it has none
            yield from self._devices.tell_one(place, None, arrival, Reason.NOT_A_NUMBER)
        else:
            yield from self._devices.tell_one(place, text or None, arrival)

    def _learn(self, config: Any) -> None:
        """Take the unit from a discovery message, whose keys may be short, `~` the base topic."""
        if not isinstance(config, dict) or len(self._units) >= MAX_DISCOVERED:
            return
        topic = config.get("state_topic", config.get("stat_t"))
        unit = unit_of(config.get("unit_of_measurement", config.get("unit_of_meas")))
        if not unit or not isinstance(topic, str):
            return
        found = _STATE.fullmatch(topic.replace("~", str(config.get("~", "")), 1))
        if found is not None:
            place = Place(found["device"].removeprefix(self._base), found["property"])
            self._units[place] = unit

    def _about(self, place: Place) -> About:
        domain = place.property.partition("/")[0]
        kind = PointType.NUMBER if domain in _NUMBERS else None
        if domain in _SWITCHED:
            kind = PointType.BOOLEAN
        return About(self._units.get(place, ""), kind, domain in _WRITTEN)


def make(options: ShapeOptions) -> EspHomeShape:
    """Make the shape for one connection."""
    return EspHomeShape(options)
