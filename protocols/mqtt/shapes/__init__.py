"""Known device shapes: what the messages of Zigbee2MQTT, Sparkplug B, Tasmota and others mean.

A shape is a module of this folder, called as the device option `shape` says; its `make` gives a
`Shape`. Shapes are pure: they do no I/O, and a message can be anything without one raising.
"""

from protocols.mqtt.shapes.shape import (
    Place,
    Publication,
    Scalar,
    Shape,
    ShapeName,
    ShapeOptions,
    Update,
    find,
)

__all__ = [
    "Place",
    "Publication",
    "Scalar",
    "Shape",
    "ShapeName",
    "ShapeOptions",
    "Update",
    "find",
]
