"""How far a shown value may be from what was expected, by the unit of the point."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

ROUNDING: Final = 1e-9
"""Room for what floats do to decimals, as a share of the expected value."""


@dataclass(frozen=True, slots=True)
class Tolerance:
    """A fixed distance, or a share of the expected value in percent."""

    absolute: float = 0.0
    percent: float = 0.0

    def at(self, expected: float) -> float:
        """Tell the distance that is allowed at a value."""
        return max(self.absolute, abs(expected) / 100 * self.percent)


OTHERWISE: Final = Tolerance(percent=5)
"""For numbers of any other unit."""

_GAPS: Final = re.compile(r"[\s_\-]")
_USUAL: Final = (
    (Tolerance(0.5), ("°c", "c", "degc", "degreescelsius", "k")),
    (Tolerance(1.0), ("°f", "f", "degf", "degreesfahrenheit")),
    (Tolerance(3.0), ("%", "%rh", "%r.h.", "percent", "percentrelativehumidity")),
    (Tolerance(75.0), ("ppm", "partspermillion")),
    (Tolerance(12.5), ("pa", "pascals")),
    (Tolerance(0.05), ("inwc", "inh2o", "inchesofwater")),
    (Tolerance(percent=10), ("m³/h", "m3/h", "m³/s", "m3/s", "l/s", "l/min", "l/h", "cfm")),
)
BY_UNIT: Final[Mapping[str, Tolerance]] = {unit: one for one, units in _USUAL for unit in units}
"""Usual at the check-out of building controls, by the unit in small letters without gaps."""


def usual(unit: str) -> Tolerance:
    """Give the usual tolerance of a unit."""
    return BY_UNIT.get(_GAPS.sub("", unit.lower()), OTHERWISE)


def is_within(shown: float, expected: float, tolerance: float) -> bool:
    """Tell whether a value is as near to the expected one as it must be."""
    return abs(shown - expected) <= tolerance + ROUNDING * max(1.0, abs(expected))
