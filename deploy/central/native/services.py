"""The services of a stack, in the order in which they are shown; they end the other way round."""

from collections.abc import Sequence
from typing import Final

from deploy.central.native.kafka import Kafka
from deploy.central.native.mosquitto import Mosquitto
from deploy.central.native.registry import Registry
from deploy.central.native.service import Service, StackFailed
from deploy.central.native.timescale import Timescale

SERVICES: Final[Sequence[Service]] = (
    Kafka(),
    Registry(),
    Timescale(),
    Mosquitto(),
)


def find(name: str) -> Service:
    """Find a service by its name; raises `StackFailed` that lists those there are."""
    for service in SERVICES:
        if service.name == name:
            return service
    known = ", ".join(service.name for service in SERVICES)
    raise StackFailed(f"there is no service {name!r}: choose from {known}")
