"""The air handler and its three VAV boxes as devices: the model's minutes at a replayed moment.

A day is simulated when its first moment is asked for, from the recorded outdoor temperature of that
day and the day before; so it is the same however one comes to it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from protocols.simulated.air_handler import (
    MINUTES_A_DAY,
    ZONE_SET_POINT,
    ZONES,
    is_occupied,
    simulate,
)
from protocols.simulated.noise import seed_of
from protocols.simulated.recording import Recording
from shared.model import Point, PointType

_MINUTE_US: Final = 60_000_000
_DAY_US: Final = MINUTES_A_DAY * _MINUTE_US
_WINTER_BELOW: Final = 3.0
_SUMMER_SET_POINT, _WINTER_SET_POINT = 12.8, 18.3
_SWITCHES: Final = frozenset({"supply_fan_status", "return_fan_status", "occupied"})
_STEPS: Final = {"degC": 20.0, "%": 1.0, "Pa": 0.4, "m3/h": 10.0, "": 1.0}
"""How finely each unit is resolved, as parts of one."""

AIR_HANDLER: Final = {
    "supply_temp": "degC",
    "supply_temp_setpoint": "degC",
    "outdoor_temp": "degC",
    "mixed_temp": "degC",
    "return_temp": "degC",
    "supply_fan_status": "",
    "return_fan_status": "",
    "supply_fan_speed": "%",
    "return_fan_speed": "%",
    "exhaust_damper": "%",
    "outdoor_damper": "%",
    "return_damper": "%",
    "cooling_valve": "%",
    "heating_valve": "%",
    "static_pressure_setpoint": "Pa",
    "static_pressure": "Pa",
    "occupied": "",
}
BOX: Final = {
    "temperature": "degC",
    "setpoint": "degC",
    "airflow": "m3/h",
    "damper": "%",
    "reheat_valve": "%",
    "discharge_temp": "degC",
}


class Plant:
    """The air handler's days, simulated as they are needed; the last two are kept."""

    def __init__(self, recording: Recording, seed: int) -> None:
        self._recording = recording
        self._seed = seed_of(seed, "air handler")
        self._days: dict[int, list[dict[str, float]]] = {}

    def at(self, name: str, replayed_us: int) -> float:
        """Tell a quantity of the model, straight between its minutes, switches in steps."""
        minute, rest = divmod(replayed_us, _MINUTE_US)
        before = self._minute(minute)[name]
        if name in _SWITCHES or rest == 0:
            return before
        after = self._minute(minute + 1)[name]
        return before + (after - before) * (rest / _MINUTE_US)

    def _minute(self, minute: int) -> Mapping[str, float]:
        day, at = divmod(minute, MINUTES_A_DAY)
        rows = self._days.get(day)
        if rows is None:
            rows = self._simulate(day)
            self._days = {**dict(list(self._days.items())[-1:]), day: rows}
        return rows[at]

    def _simulate(self, day: int) -> list[dict[str, float]]:
        start_us = (day - 1) * _DAY_US
        outdoor = [
            self._recording.at("outdoor_temperature", start_us + minute * _MINUTE_US)
            for minute in range(2 * MINUTES_A_DAY)
        ]
        mean = sum(outdoor[MINUTES_A_DAY:]) / MINUTES_A_DAY
        set_point = _WINTER_SET_POINT if mean < _WINTER_BELOW else _SUMMER_SET_POINT
        return simulate(outdoor, set_point, self._seed)


@dataclass(frozen=True, slots=True)
class AirHandler:
    """The air handler."""

    name: str
    plant: Plant

    @property
    def points(self) -> tuple[Point, ...]:
        """Seventeen points: temperatures, fans, dampers, coils, duct pressure, occupancy."""
        return tuple(_point(self.name, name, unit) for name, unit in AIR_HANDLER.items())

    def values(self, replayed_us: int) -> dict[str, float]:
        """Read the model, at the resolution of a controller."""
        return {
            f"{self.name}/{name}": _resolved(self.plant.at(name, replayed_us), unit)
            for name, unit in AIR_HANDLER.items()
        }


@dataclass(frozen=True, slots=True)
class VavBox:
    """One zone and its box."""

    name: str
    plant: Plant
    zone: int

    @property
    def points(self) -> tuple[Point, ...]:
        """The zone's temperature and set point, and what its box does."""
        return tuple(_point(self.name, name, unit) for name, unit in BOX.items())

    def values(self, replayed_us: int) -> dict[str, float]:
        """Read the model, at the resolution of a controller."""
        return {
            f"{self.name}/{name}": _resolved(self._value(name, replayed_us), unit)
            for name, unit in BOX.items()
        }

    def _value(self, name: str, replayed_us: int) -> float:
        if name == "setpoint":
            minute = replayed_us // _MINUTE_US % MINUTES_A_DAY
            return ZONE_SET_POINT if is_occupied(minute) else ZONE_SET_POINT - 1.5
        return self.plant.at(f"zone{self.zone}_{name}", replayed_us)


def hvac(recording: Recording, seed: int) -> tuple[AirHandler | VavBox, ...]:
    """Make ahu1 and vav1 to vav3."""
    plant = Plant(recording, seed)
    boxes = (VavBox(f"vav{zone}", plant, zone) for zone in range(1, ZONES + 1))
    return (AirHandler("ahu1", plant), *boxes)


def _point(device: str, name: str, unit: str) -> Point:
    kind = PointType.BOOLEAN if name in _SWITCHES else PointType.NUMBER
    return Point(f"{device}/{name}", unit, kind)


def _resolved(value: float, unit: str) -> float:
    parts = _STEPS[unit]
    return round(value * parts) / parts
