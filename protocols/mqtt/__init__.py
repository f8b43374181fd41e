"""MQTT: points fed by the messages of a broker, acknowledged when they are on the disk."""

from importlib import import_module

from protocols.driver import DriverType

__all__ = ["driver_type"]


def driver_type() -> DriverType:
    """Describe the driver to the registry."""
    # Imported only now: who needs a broker's options alone does without paho.
    described: DriverType = import_module("protocols.mqtt.driver").driver_type()
    return described
