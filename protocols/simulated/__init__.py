"""The simulated building: real servers of three protocols with known truth, for demo and tests."""

from protocols.simulated.gateway import gateway_devices
from protocols.simulated.process import (
    BuildingFailed,
    RunningBuilding,
    command,
    running_building,
    stop,
)
from protocols.simulated.settings import BuildingSettings

__all__ = [
    "BuildingFailed",
    "BuildingSettings",
    "RunningBuilding",
    "command",
    "gateway_devices",
    "running_building",
    "stop",
]
