"""Twelve room sensors: temperature and humidity as they were measured.

Rooms 1 to 9 are the nine of the recording (6 hangs outside); 10 to 12 replay rooms 1, 3 and 9 some
days later, as other rooms of the same kind. The resolution is that of the sensors.
"""

from dataclasses import dataclass
from typing import Final

from protocols.simulated.recording import STEP_US, STEPS_A_DAY, Recording
from shared.model import Point

_LIKE: Final = {10: (1, 31), 11: (3, 47), 12: (9, 64)}
"""Room: the recorded room it resembles, and how many days later."""


@dataclass(frozen=True, slots=True)
class RoomSensor:
    """One room of the recording, possibly some days later."""

    name: str
    recording: Recording
    column: str
    later_us: int

    @property
    def points(self) -> tuple[Point, ...]:
        """Temperature and relative humidity."""
        return (
            Point(f"{self.name}/temperature", "degC"),
            Point(f"{self.name}/humidity", "%"),
        )

    def values(self, replayed_us: int) -> dict[str, float]:
        """Interpolate the recording, with two and one decimals."""
        at_us = replayed_us + self.later_us
        temperature = self.recording.at(f"{self.column}_temperature", at_us)
        humidity = self.recording.at(f"{self.column}_humidity", at_us)
        return {
            f"{self.name}/temperature": round(temperature, 2),
            f"{self.name}/humidity": round(humidity, 1),
        }


def room_sensors(recording: Recording) -> tuple[RoomSensor, ...]:
    """Make the twelve sensors, room1 to room12."""
    sensors = []
    for number in range(1, 13):
        like, days = _LIKE.get(number, (number, 0))
        later_us = days * STEPS_A_DAY * STEP_US
        sensors.append(RoomSensor(f"room{number}", recording, f"room{like}", later_us))
    return tuple(sensors)
