"""What the photovoltaic inverter makes of the day: sun, clouds and outdoor temperature.

The sun stands as over the measured house on the recorded day; the sky is the duller the damper the
recorded air. Source of the sun's height: Duffie and Beckman, Solar Engineering of Thermal
Processes, equations 1.6.1 and 1.6.5.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from protocols.simulated.electricity import supply_voltage
from protocols.simulated.noise import noise, seed_of
from protocols.simulated.recording import STEPS_A_DAY, Place, Recording, Total
from shared.model import Point

_LATITUDE: Final = math.radians(50.5)
_FIRST_DAY_OF_YEAR: Final = 45
_PEAK_W: Final = 6_000.0
_SECOND_US: Final = 1_000_000
_STANDBY, _RUNNING = 2.0, 4.0
"""Operating states of SunSpec model 103: sleeping, and tracking the maximum power point."""
_UNITS: Final = {
    "ac_power": "W",
    "ac_voltage": "V",
    "ac_current": "A",
    "dc_power": "W",
    "dc_voltage": "V",
    "temperature": "degC",
    "state": "",
    "energy": "kWh",
}


@dataclass(frozen=True, slots=True)
class Inverter:
    """One inverter on the roof of the measured house."""

    name: str
    recording: Recording
    energy_wh: Total
    seed: int
    supply_seed: int

    @property
    def points(self) -> tuple[Point, ...]:
        """What SunSpec model 103 offers of it."""
        return tuple(Point(f"{self.name}/{name}", unit) for name, unit in _UNITS.items())

    def values(self, replayed_us: int) -> dict[str, float]:
        """Measure; at night all power is 0."""
        place = self.recording.place(replayed_us)
        dc_power = between(self.energy_wh.steps, place) * 6
        ac_power = dc_power * 0.965
        voltage = supply_voltage(self.supply_seed, replayed_us) + 0.9
        outdoor = self.recording.at("outdoor_temperature", replayed_us)
        values = {
            "ac_power": ac_power,
            "ac_voltage": voltage,
            "ac_current": ac_power / voltage,
            "dc_power": dc_power,
            "dc_voltage": self._dc_voltage(dc_power, replayed_us),
            "temperature": outdoor + 8 + 25 * dc_power / _PEAK_W,
            "state": _RUNNING if dc_power > 0 else _STANDBY,
            "energy": self.energy_wh.at(place, place.part) * 0.965 / 1_000,
        }
        return {f"{self.name}/{name}": value for name, value in values.items()}

    def _dc_voltage(self, dc_power: float, replayed_us: int) -> float:
        if dc_power <= 0:
            return 0.0
        return 560 + 40 * dc_power / _PEAK_W + 2 * noise(self.seed, replayed_us // _SECOND_US)


def inverter(recording: Recording, seed: int) -> Inverter:
    """Make inverter1, whose panels saw the whole recording."""
    humidity = recording.columns["outdoor_humidity"]
    outdoor = recording.columns["outdoor_temperature"]
    powers = [_panel_w(row, humidity[row], outdoor[row]) for row in range(recording.rows)]
    name = "inverter1"
    steps = tuple(power / 6 for power in powers)
    return Inverter(name, recording, Total.of(steps), seed_of(seed, name), seed_of(seed, "supply"))


def between(steps: Sequence[float], place: Place) -> float:
    """Interpolate a series of steps at a place."""
    before, after = steps[place.row], steps[(place.row + 1) % len(steps)]
    return before + (after - before) * place.part


def _panel_w(row: int, humidity: float, outdoor: float) -> float:
    day, step = divmod(row, STEPS_A_DAY)
    sun = _sun_height(_FIRST_DAY_OF_YEAR + day, step / STEPS_A_DAY * 24)
    if sun <= 0:
        return 0.0
    clouds = min(1.0, max(0.0, (humidity - 45) / 55))
    light = math.pow(sun, 1.15) * (1 - 0.78 * clouds)
    cell = outdoor + 28 * light
    return _PEAK_W * light * (1 - 0.004 * (cell - 25))


def _sun_height(day_of_year: int, hour: float) -> float:
    """Tell the sine of the sun's height above the horizon; negative at night."""
    declination = math.radians(23.45) * math.sin(2 * math.pi * (284 + day_of_year) / 365)
    hour_angle = math.radians(15 * (hour - 12))
    return math.sin(_LATITUDE) * math.sin(declination) + math.cos(_LATITUDE) * math.cos(
        declination
    ) * math.cos(hour_angle)
