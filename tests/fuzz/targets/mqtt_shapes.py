"""Messages of known device shapes: whatever they are, updates or none; nothing is raised."""

import json
from collections.abc import Callable

from protocols.mqtt.shapes import (
    Place,
    Shape,
    ShapeOptions,
    chirpstack,
    esphome,
    shelly,
    tasmota,
    things_network,
    zigbee2mqtt,
)
from protocols.mqtt.shapes.shape import Update

_OPTIONS = ShapeOptions(zone="Europe/Berlin")
_NAMES = ("a.b", "object.t", "object.t@85", "switch:0.output", "ENERGY.Power", "sensor/t", "state")
_TOPICS: dict[Callable[[ShapeOptions], Shape], tuple[str, ...]] = {
    zigbee2mqtt.make: (
        "zigbee2mqtt/d",
        "zigbee2mqtt/d/availability",
        "zigbee2mqtt/bridge/devices",
        "zigbee2mqtt/bridge/state",
    ),
    tasmota.make: ("tele/d/SENSOR", "stat/d/STATUS10", "tele/d/LWT", "stat/d/POWER"),
    shelly.make: ("d/events/rpc", "d/status/em:0", "shellies/d/relay/0/power", "d/online"),
    esphome.make: ("d/sensor/t/state", "d/light/t/state", "homeassistant/x/config", "d/status"),
    things_network.make: ("v3/a@t/devices/d/up",),
    chirpstack.make: ("application/1/device/d/event/up", "application/1/device/d/event/status"),
}

_DOCUMENTS = (
    {"state": "ON", "a": {"b": None}, "last_seen": 1.7e12, "color": {"x": 0.3}},
    [{"friendly_name": "d", "definition": {"exposes": [{"features": [{"property": "a"}]}]}}],
    {"Time": "2026-03-01T10:15:00", "StatusSNS": {"ENERGY": {"Power": [1]}, "TempUnit": "F"}},
    {"method": "NotifyStatus", "params": {"ts": 1.7e9, "switch:0": {"output": True}}},
    {"method": "NotifyEvent", "params": {"ts": None, "events": [{"component": "i", "event": "s"}]}},
    {"deduplicationId": "1", "time": "2026-03-01T10:15:00Z", "fPort": 85, "object": {"t": 1}},
    {"uplink_message": {"frm_payload": "AQ==", "decoded_payload": {"t": 1}, "received_at": "x"}},
    {"stat_t": "~/sensor/t/state", "~": "d", "unit_of_meas": "W"},
)

SEEDS = (*(json.dumps(one).encode() for one in _DOCUMENTS), b"offline", b"nan", b"21.5", b"ON")


def one(data: bytes) -> None:
    for make, topics in _TOPICS.items():
        shape = make(_OPTIONS)
        shape.filters([Place("d", name) for name in _NAMES])
        for topic in topics:
            for update in shape.feed(topic, data, is_retained=len(data) % 2 == 0):
                assert isinstance(update, Update)
                assert isinstance(update.value, bool | int | float | str | None)
        for node in shape.proposals():
            assert len(node.key) <= 200
