"""The shape of ChirpStack v4: LoRaWAN devices, whose values its codec puts into `object`.

Source: "Integrations", "MQTT" and "Events" of its documentation.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from protocols.mqtt.shapes.lorawan import Event, LoRaWanShape, Server
from protocols.mqtt.shapes.shape import ShapeOptions

_UPLINK: Final = ("object", "rxInfo", "fCnt", "fPort", "dr", "adr")
_STATUS: Final = ("margin", "batteryLevel", "externalPowerSource", "batteryLevelUnavailable")


def _filters(options: ShapeOptions, device: str) -> Sequence[str]:
    base = f"{options.base.strip('/')}/" if options.base.strip("/") else ""
    below = f"{base}application/{options.group or '+'}/device/{device}/event"
    return [f"{below}/up", f"{below}/status"]


def _event(kind: str, told: Mapping[str, Any]) -> Event:
    time, name = told.get("time"), told.get("deduplicationId")
    if kind == "status":
        status = {part: told[part] for part in _STATUS if part in told}
        return Event({"status": status}, time, id=name)
    is_unread = bool(told.get("data")) and not isinstance(told.get("object"), dict)
    values = {part: told[part] for part in _UPLINK if part in told}
    return Event(values, time, told.get("fPort"), is_unread, name)


SERVER: Final = Server(
    re.compile(r"(?:.+/)?application/[^/]+/device/(?P<device>[^/]+)/event/(?P<kind>up|status)"),
    _filters,
    _event,
    "object",
    {
        "rxInfo[0].rssi": "dBm",
        "rxInfo[0].snr": "dB",
        "status.batteryLevel": "%",
        "status.margin": "dB",
    },
)


def make(options: ShapeOptions) -> LoRaWanShape:
    """Make the shape for one connection; devices are named by their DevEUI."""
    return LoRaWanShape(SERVER, options)
