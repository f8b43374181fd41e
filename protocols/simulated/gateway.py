"""How a gateway is configured to read the building: the `devices` section of its configuration."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from protocols.simulated.device import Device
from protocols.simulated.layouts import LAYOUTS, UNITS
from protocols.simulated.mqtt_client import Broker
from protocols.simulated.mqtt_rooms import topic_of
from protocols.simulated.opcua_server import NAMESPACE_INDEX

Section = dict[str, Any]


def gateway_devices(building: Path | Mapping[str, Any], interval_s: float = 1.0) -> list[Section]:
    """List the devices for a gateway, from `building.json` or its content.

    Five Modbus devices polled every `interval_s`, one OPC UA connection for the air handler and its
    boxes, one MQTT connection for the rooms.
    """
    content: Mapping[str, Any] = (
        json.loads(building.read_text(encoding="utf-8")) if isinstance(building, Path) else building
    )
    sections: list[Section] = content["gateway"]
    return [
        section | {"interval_s": interval_s} if section["driver"] == "modbus" else section
        for section in sections
    ]


def write_config(path: Path, sections: Sequence[Section]) -> None:
    """Write a YAML file that holds the `devices` section."""
    yaml = YAML(typ="safe")
    yaml.default_flow_style = None
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment] # a documented switch
    yaml.width = 200
    with path.open("w", encoding="utf-8") as file:
        yaml.dump({"devices": list(sections)}, file)


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


def _points(device: Device, source: Any) -> list[Section]:
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
