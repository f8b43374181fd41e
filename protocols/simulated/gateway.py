"""How a gateway is configured to read the building: the `devices` section of its configuration.

The building itself writes the sections into `building.json`; this only reads them.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

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
