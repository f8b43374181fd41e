"""What SunSpec's models, points and units are called here. Pure."""

import re
from typing import Final

_MODELS: Final = (
    (range(101, 114), "inverter"),
    (range(201, 215), "meter"),
    (range(160, 161), "mppt"),
    (range(801, 810), "battery"),
    (range(1, 2), "common"),
)

_INVERTER: Final = {
    "A": "ac_current",
    "AphA": "ac_current_l1",
    "AphB": "ac_current_l2",
    "AphC": "ac_current_l3",
    "PPVphAB": "ac_voltage_l1_l2",
    "PPVphBC": "ac_voltage_l2_l3",
    "PPVphCA": "ac_voltage_l3_l1",
    "PhVphA": "ac_voltage_l1",
    "PhVphB": "ac_voltage_l2",
    "PhVphC": "ac_voltage_l3",
    "W": "ac_power",
    "Hz": "frequency",
    "VA": "apparent_power",
    "VAr": "reactive_power",
    "PF": "power_factor",
    "WH": "energy_total",
    "DCA": "dc_current",
    "DCV": "dc_voltage",
    "DCW": "dc_power",
    "TmpCab": "cabinet_temp",
    "St": "state",
    "StVnd": "vendor_state",
}
_POINTS: Final = {"inverter": _INVERTER}

_UNITS: Final = {
    "Secs": "s",
    "Sec": "s",
    "mSecs": "ms",
    "C": "°C",
    "Pct": "%",
    "Degrees": "°",
    "deg": "°",
    "Var": "var",
    "Varh": "varh",
    "WH": "Wh",
    "AH": "Ah",
    "kAH": "kAh",
    "W/m2": "W/m²",
    "W/m^2": "W/m²",
    "HPa": "hPa",
    "mps": "m/s",
    "meters": "m",
    "ohms": "Ω",
    "kO": "kΩ",
    "cos()": "",
    "PF": "",
    "SF": "",
    "text": "",
}
_WORDS: Final = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+|[0-9]+")
_MAX_UNIT: Final = 40
_LONGEST: Final = 60


def model_key(model: int, name: str) -> str:
    """Name a model as the first part of its points' keys."""
    for models, key in _MODELS:
        if model in models:
            return key
    return words(name)


def point_key(family: str, name: str, label: str) -> str:
    """Name a point: as people call it where that is known, else by its label."""
    return _POINTS.get(family, {}).get(name) or words(label) or words(name)


def unit(told: str) -> str:
    """Spell a unit as the rest of SPINE does."""
    return _UNITS.get(told, told).strip()[:_MAX_UNIT]


def words(name: str) -> str:
    """Make `total_energy_l1` of `Total Energy L1` and of `totalEnergyL1`."""
    return "_".join(word.lower() for word in _WORDS.findall(name))[:_LONGEST].strip("_")
