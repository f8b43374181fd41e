"""Units of what Shelly devices tell: they never say any."""

import re
from typing import Final

_GEN1: Final = (
    (r"emeter/\d+/(total|total_returned|energy|returned_energy)", "Wh"),
    (r"(relay|roller|light|meter)/(\d+/)?energy", "W·min"),  # Watt-minutes: divide by 60 for Wh
    (r"emeter/\d+/reactive_power", "var"),
    (r"(.+/)?power", "W"),
    (r"(.+/)?voltage", "V"),
    (r"(.+/)?current", "A"),
    (r"(temperature|sensor/temperature|ext_temperatures?/\d+|sensor/ext_temp)", "°C"),
    (r"temperature_f", "°F"),
    (r"sensor/(humidity|battery)|ext_humidit(y|ies)/\d+", "%"),
    (r"sensor/lux", "lx"),
    (r"roller/\d+/pos", "%"),
)
_GEN2: Final = (
    (r"apower|(.+_)?act_power", "W"),
    (r"(.+_)?aprt_power", "VA"),
    (r"(.+_)?voltage|V|xvoltage", "V"),
    (r"(.+_)?current", "A"),
    (r"(.+_)?freq", "Hz"),
    (r"(.+_)?total_act(_ret)?_energy|total_act(_ret)?|total", "Wh"),
    (r"by_minute", "mWh"),
    (r"tC", "°C"),
    (r"tF", "°F"),
    (r"rh|percent|current_pos|target_pos|brightness", "%"),
    (r"rssi", "dBm"),
    (r"uptime", "s"),
    (r"lux|illuminance", "lx"),
)
_INDEX: Final = re.compile(r"\[\d+\]$")


def unit_of(name: str) -> str:
    """Tell the unit of a property; empty where it has none or nobody knows."""
    if "/" in name or "." not in name:
        return _first(_GEN1, name)
    return _first(_GEN2, _INDEX.sub("", name).rpartition(".")[2])


def _first(table: tuple[tuple[str, str], ...], name: str) -> str:
    return next((unit for pattern, unit in table if re.fullmatch(pattern, name)), "")
