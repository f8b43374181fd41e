"""What Home Assistant is told of points: topics, discovery documents, states. Pure.

Its side of it: https://www.home-assistant.io/integrations/mqtt/ (MQTT discovery) and
https://developers.home-assistant.io/docs/core/entity/sensor (device and state classes, units).
"""

import hashlib
import json
import math
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from edge.live import LiveValue
from edge.settings import DIAGNOSTICS_NAME, Device
from protocols.mqtt.publication import Publication
from shared.model import Point, PointType
from shared.quality import QualityClass, class_of, reason_of

ONLINE: Final = b"online"
OFFLINE: Final = b"offline"
_TEXT_LENGTH: Final = 255  # a longer state is refused
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_NO_ID: Final = re.compile(r"[^a-zA-Z0-9_-]+")

_MEASURES: Final = {
    "temperature": ("°C", "°F", "K"),
    "power": ("W", "kW", "MW"),
    "energy": ("Wh", "kWh", "MWh", "MJ", "GJ"),
    "voltage": ("mV", "V"),
    "current": ("mA", "A"),
    "apparent_power": ("VA", "kVA"),
    "reactive_power": ("var", "kvar"),
    "frequency": ("Hz", "kHz"),
    "pressure": ("Pa", "hPa", "kPa", "mbar", "bar", "psi"),
    "illuminance": ("lx",),
    "irradiance": ("W/m²",),
    "volume_flow_rate": ("m³/h", "L/min"),
    "duration": ("ms", "s", "min", "h", "d"),
    "wind_speed": ("m/s", "km/h"),
    "signal_strength": ("dBm",),
}
"""What units measure beyond doubt."""

_CLASSES: Final = {unit: kind for kind, units in _MEASURES.items() for unit in units}
_WRITTEN: Final = {
    **dict.fromkeys(("degC", "C", "℃"), "°C"),
    **dict.fromkeys(("degF", "F"), "°F"),
    "lux": "lx",
    "W/m2": "W/m²",
    "m3/h": "m³/h",
    "l/min": "L/min",
}
"""Units that are written otherwise there."""

_WORDS: Final = (
    ("%", "humid", "humidity"),
    ("%", "battery", "battery"),
    ("ppm", "co2", "carbon_dioxide"),
)
"""What a unit measures if the key holds a word."""


@dataclass(frozen=True, slots=True)
class Names:
    """The topics of one gateway."""

    gateway: str
    prefix: str
    base: str

    @property
    def status(self) -> str:
        """Where the gateway, or its last will, says whether it is there."""
        return f"{self.base}/{self.gateway}/status"

    @property
    def configs(self) -> str:
        """A filter over all discovery topics of this gateway."""
        return f"{self.prefix}/+/{self._node}/+/config"

    def state(self, key: str) -> str:
        """Where the state of a point is."""
        return f"{self.base}/{self.gateway}/points/{key}"

    def config(self, point: Point) -> str:
        """Where a point is announced."""
        kind = "binary_sensor" if point.type is PointType.BOOLEAN else "sensor"
        return f"{self.prefix}/{kind}/{self._node}/{self.object(point.key)}/config"

    def object(self, key: str) -> str:
        """Name a point where only letters and digits may be: two keys never get one name."""
        return f"{_plain(key)[:60]}_{hashlib.sha256(key.encode()).hexdigest()[:8]}"

    def device(self, name: str) -> str:
        """Name a device for ever; the gateway's own device is the gateway."""
        return self._node if name == DIAGNOSTICS_NAME else f"{self._node}_{_plain(name)}"

    @property
    def _node(self) -> str:
        return f"spine_{_plain(self.gateway)}"


def _plain(text: str) -> str:
    return _NO_ID.sub("_", text)


def announcement(names: Names, device: Device, point: Point) -> Publication:
    """Announce a point; kept by the broker for whoever comes later."""
    state = names.state(point.key)
    good = "{{ 'online' if value_json.available else 'offline' }}"
    told: dict[str, Any] = {
        "name": point.key,
        "unique_id": f"{names.device(DIAGNOSTICS_NAME)}_{names.object(point.key)}",
        "state_topic": state,
        "json_attributes_topic": state,
        "availability_mode": "all",
        "availability": [{"topic": names.status}, {"topic": state, "value_template": good}],
        "device": _device(names, device.name),
        "origin": {"name": "SPINE"},
        **_meaning(point),
    }
    payload = json.dumps(told, ensure_ascii=False).encode()
    return Publication(names.config(point), payload, is_retained=True)


def _device(names: Names, name: str) -> dict[str, Any]:
    is_gateway = name == DIAGNOSTICS_NAME
    told: dict[str, Any] = {
        "identifiers": [names.device(name)],
        "name": names.gateway if is_gateway else name,
        "manufacturer": "SPINE",
    }
    return told if is_gateway else told | {"via_device": names.device(DIAGNOSTICS_NAME)}


def _meaning(point: Point) -> dict[str, str]:
    if point.type is PointType.BOOLEAN:
        on = "{{ 'ON' if value_json.value else 'OFF' }}"
        return {"value_template": on, "payload_on": "ON", "payload_off": "OFF"}
    template = {"value_template": "{{ value_json.value }}"}
    if point.type is PointType.TEXT:
        return template
    unit = _WRITTEN.get(point.unit, point.unit)
    key = point.key.lower()
    words = (kind for one, word, kind in _WORDS if one == unit and word in key)
    device_class = _CLASSES.get(unit) or next(words, "")
    return {
        **template,
        "state_class": "total_increasing" if device_class == "energy" else "measurement",
        **({"unit_of_measurement": unit} if unit else {}),
        **({"device_class": device_class} if device_class else {}),
    }


def state(names: Names, value: LiveValue) -> Publication:
    """Tell a reading; one of bad quality makes its point unavailable, and is never a number."""
    is_known = class_of(value.quality) is not QualityClass.BAD
    shown: float | str | None = value.text[:_TEXT_LENGTH] if value.text is not None else None
    if shown is None and math.isfinite(value.value):
        shown = value.value
    told = {
        "value": shown if is_known else None,
        "available": is_known and shown is not None,
        "quality": class_of(value.quality).name.lower(),
        "reason": reason_of(value.quality).name.lower(),
        "observed_at": (_EPOCH + timedelta(microseconds=value.observed_at)).isoformat(),
    }
    payload = json.dumps(told, ensure_ascii=False).encode()
    return Publication(names.state(value.key), payload, is_retained=True)
