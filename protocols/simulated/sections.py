"""Each side of the building as a gateway is to read it: devices, options and points."""

from collections.abc import Callable, Sequence

from protocols.simulated.device import Device
from protocols.simulated.gateway import Section
from protocols.simulated.layouts import LAYOUTS, UNITS
from protocols.simulated.mqtt_client import Broker
from protocols.simulated.mqtt_rooms import topic_of
from protocols.simulated.opcua_server import NAMESPACE_INDEX


def modbus_section(device: Device, host: str, port: int) -> Section:
    """Describe a Modbus device."""
    sources = LAYOUTS[device.name].sources()
    return {
        "name": device.name,
        "driver": "modbus",
        "options": {"host": host, "port": port, "unit": UNITS[device.name]},
        "points": _points(device, lambda key: sources[_name(key)]),
    }


def opcua_section(devices: Sequence[Device], url: str) -> Section:
    """Describe the OPC UA server with all its devices."""
    return {
        "name": "hvac",
        "driver": "opcua",
        "options": {
            "url": url,
            "trigger": "timestamp",
            "publishing_interval_ms": 250,
            "sampling_interval_ms": 50,
            "queue_size": 100,
        },
        "points": [
            point
            for device in devices
            for point in _points(device, lambda key: {"node": f"ns={NAMESPACE_INDEX};s={key}"})
        ],
    }


def mqtt_section(devices: Sequence[Device], broker: Broker) -> Section:
    """Describe the broker with all rooms."""
    return {
        "name": "rooms",
        "driver": "mqtt",
        "options": {"host": broker.host, "port": broker.port, "client_id": "spine-rooms"},
        "points": [
            point
            for device in devices
            for point in _points(
                device,
                lambda key: {
                    "topic": topic_of(key.partition("/")[0]),
                    "path": _name(key),
                    "time_path": "at",
                    "time_unit": "us",
                },
            )
        ],
    }


def _points(device: Device, source: Callable[[str], Section]) -> list[Section]:
    return [
        {
            "key": point.key,
            "unit": point.unit,
            "type": point.type.value,
            "source": source(point.key),
        }
        for point in device.points
    ]


def _name(key: str) -> str:
    return key.rpartition("/")[2]
