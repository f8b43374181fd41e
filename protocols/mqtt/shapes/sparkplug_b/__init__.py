"""Sparkplug B: births, deaths, aliases, sequence numbers and rebirths of edge nodes."""

from protocols.mqtt.shapes.shape import ShapeOptions
from protocols.mqtt.shapes.sparkplug_b.shape import SparkplugShape

__all__ = ["SparkplugShape", "make"]


def make(options: ShapeOptions) -> SparkplugShape:
    """Make the shape for one connection."""
    return SparkplugShape(options)
