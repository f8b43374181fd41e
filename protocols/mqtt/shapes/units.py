"""Units as devices write them, and as SPINE does."""

from typing import Final

_SPELLINGS: Final = {
    "°C": ("ºc", "c", "celsius", "degc"),
    "°F": ("ºf", "f", "fahrenheit", "degf"),
    "lx": ("lux",),
    "s": ("sec", "secs", "second", "seconds"),
    "min": ("mins", "minute", "minutes"),
    "h": ("hr", "hrs", "hour", "hours"),
    "d": ("day", "days"),
    "W": ("watt", "watts"),
    "m": ("meter", "meters", "metre", "metres"),
    "V": ("volt", "volts"),
    "A": ("amp", "amps", "ampere"),
    "%": ("percent", "%rh"),
    "µg/m³": ("ug/m3", "μg/m³", "µg/m3"),
    "mg/m³": ("mg/m3",),
    "m³": ("m3",),
    "m³/h": ("m3/h",),
}
_UNITS: Final = {one: unit for unit, spellings in _SPELLINGS.items() for one in spellings}
_NONE: Final = frozenset({"raw", "raw unit", "times", "none", "-"})
_LONGEST: Final = 40


def unit_of(told: object) -> str:
    """Give a unit that a device told in one spelling; empty if it told none."""
    if not isinstance(told, str) or told.strip().lower() in _NONE:
        return ""
    plain = told.strip()
    return _UNITS.get(plain.lower(), plain)[:_LONGEST] if len(plain) > 1 else _single(plain)


def _single(sign: str) -> str:
    return {"C": "°C", "F": "°F"}.get(sign, sign)
