"""The shape of The Things Stack v3: LoRaWAN devices, whose values lie in `decoded_payload`.

Source: "MQTT Server" and "Data Formats" of its documentation. It leaves out what is 0, false or
empty, so a value that is missing may be one of these: what an uplink does not mention is not told.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from protocols.mqtt.shapes.lorawan import Event, LoRaWanShape, Server
from protocols.mqtt.shapes.shape import ShapeOptions

_UPLINK: Final = ("decoded_payload", "rx_metadata", "f_cnt", "f_port")


def _filters(options: ShapeOptions, device: str) -> Sequence[str]:
    return [f"{options.base.strip('/') or 'v3'}/{options.group or '+'}/devices/{device}/up"]


def _event(kind: str, told: Mapping[str, Any]) -> Event | None:
    uplink = told.get("uplink_message")
    if kind != "up" or not isinstance(uplink, dict):
        return None
    values = {"f_port": 0, "f_cnt": 0}
    values |= {part: uplink[part] for part in _UPLINK if part in uplink}
    is_read = isinstance(uplink.get("decoded_payload"), dict)
    is_unread = bool(uplink.get("frm_payload")) and not is_read
    time = uplink.get("received_at", told.get("received_at"))
    return Event(values, time, values["f_port"], is_unread)


SERVER: Final = Server(
    re.compile(r".+/[^/]+/devices/(?P<device>[^/]+)/(?P<kind>up)"),
    _filters,
    _event,
    "decoded_payload",
    {"rx_metadata[0].rssi": "dBm", "rx_metadata[0].snr": "dB"},
)


def make(options: ShapeOptions) -> LoRaWanShape:
    """Make the shape for one connection; devices are named by their device id."""
    return LoRaWanShape(SERVER, options)
