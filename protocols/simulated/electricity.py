"""What four meters measure: main, appliances, lights and heating.

Energy is the exact integral of power: the recording's Wh of each 10 minutes, with a ripple on the
power that sums to nothing over them. The heating's power follows from the outdoor temperature.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from protocols.simulated.noise import noise, seed_of, wave
from protocols.simulated.recording import Recording, Total
from shared.model import Point

_RIPPLE: Final = 0.05
_RIPPLES: Final = 6 * 2 * math.pi
_HEATING_LIMIT: Final = 15.5
_HEATING_W_PER_K: Final = 60.0
_SECOND_US: Final = 1_000_000
_UNITS: Final = {
    "power": "W",
    "voltage": "V",
    "current": "A",
    "frequency": "Hz",
    "power_factor": "",
    "energy": "kWh",
}


@dataclass(frozen=True, slots=True)
class Load:
    """A consumer whose energy per step is known."""

    recording: Recording
    energy_wh: Total

    def power_w(self, replayed_us: int) -> float:
        """Tell the power: the step's mean with a ripple of six swings."""
        place = self.recording.place(replayed_us)
        mean_w = self.energy_wh.steps[place.row] * 6
        return mean_w * (1 + _RIPPLE * math.sin(_RIPPLES * place.part))

    def total_wh(self, replayed_us: int) -> float:
        """Tell the energy so far; never falls."""
        place = self.recording.place(replayed_us)
        ripple = _RIPPLE * (1 - math.cos(_RIPPLES * place.part)) / _RIPPLES
        return self.energy_wh.at(place, place.part + ripple)


@dataclass(frozen=True, slots=True)
class Meter:
    """One meter over one load, on the building's one supply."""

    name: str
    load: Load
    power_factor: float
    seed: int
    supply_seed: int
    missing: Mapping[str, str] = field(default_factory=dict)
    """Quantities that the meter's maker documents and this one does not measure; with units."""

    @property
    def points(self) -> tuple[Point, ...]:
        """The six quantities, and those that are missing."""
        units = _UNITS | dict(self.missing)
        return tuple(Point(f"{self.name}/{name}", unit) for name, unit in units.items())

    def values(self, replayed_us: int) -> dict[str, float]:
        """Measure; a missing quantity is NaN."""
        power = self.load.power_w(replayed_us)
        second = replayed_us // _SECOND_US
        factor = self.power_factor + 0.01 * noise(self.seed, second)
        voltage = supply_voltage(self.supply_seed, replayed_us) + 0.2 * noise(self.seed + 1, second)
        values = {
            "power": power,
            "voltage": voltage,
            "current": power / (voltage * factor),
            "frequency": 50 + 0.02 * wave(self.supply_seed + 2, replayed_us, 97),
            "power_factor": factor,
            "energy": self.load.total_wh(replayed_us) / 1_000,
        }
        values |= dict.fromkeys(self.missing, math.nan)
        return {f"{self.name}/{name}": value for name, value in values.items()}


def supply_voltage(seed: int, replayed_us: int) -> float:
    """Tell the voltage of the building's supply: slow swings and a little noise each second."""
    slow = 2.5 * wave(seed, replayed_us, 86_400) + 1.2 * wave(seed + 1, replayed_us, 2_820)
    return 230 + slow + 0.4 * noise(seed, replayed_us // _SECOND_US)


def meters(recording: Recording, seed: int) -> tuple[Meter, ...]:
    """Make meter1 (all), meter2 (appliances), meter3 (lights) and meter4 (heating)."""
    appliances = recording.columns["appliances_wh"]
    lights = recording.columns["lights_wh"]
    heating = [
        max(0.0, _HEATING_LIMIT - outdoor) * _HEATING_W_PER_K / 6
        for outdoor in recording.columns["outdoor_temperature"]
    ]
    main = [sum(step) for step in zip(appliances, lights, heating, strict=True)]
    supply_seed = seed_of(seed, "supply")

    def meter(number: int, steps: Sequence[float], power_factor: float) -> Meter:
        name = f"meter{number}"
        load = Load(recording, Total.of(steps))
        missing = {"neutral_current": "A"} if number == 4 else {}
        return Meter(name, load, power_factor, seed_of(seed, name), supply_seed, missing)

    return (
        meter(1, main, 0.95),
        meter(2, appliances, 0.92),
        meter(3, lights, 0.98),
        meter(4, heating, 0.90),
    )
