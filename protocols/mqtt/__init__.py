"""MQTT: points fed by the messages of a broker, acknowledged when they are on the disk."""

from protocols.mqtt.driver import driver_type

__all__ = ["driver_type"]
