"""What a message holds at one place, fitted to the type of the point that stands there. Pure."""

import json
import math
from dataclasses import dataclass
from typing import Any, Final

from shared.model import PointType
from shared.quality import Reason

_TRUE: Final = frozenset({"true", "on", "yes", "1"})
_FALSE: Final = frozenset({"false", "off", "no", "0"})


@dataclass(frozen=True, slots=True)
class Scale:
    """What a number means: times `factor`, plus `offset`; `sentinels` are no values."""

    factor: float = 1.0
    offset: float = 0.0
    sentinels: tuple[int | float, ...] = ()

    def read(self, number: float) -> tuple[float, Reason]:
        """Give the value, or why there is none."""
        if number in self.sentinels:
            return math.nan, Reason.NOT_IMPLEMENTED
        return number * self.factor + self.offset, Reason.NONE

    def written(self, value: float) -> float:
        """Give the number that means a value."""
        return (value - self.offset) / self.factor


def fitted(found: Any, kind: PointType, scale: Scale | None = None) -> tuple[float | str, Reason]:
    """Give a value of the point's type, or NaN and why; `found` can be anything."""
    if found is None:
        return math.nan, Reason.NOT_YET_REPORTED
    value: float | str | None = None
    if kind is PointType.TEXT:
        value = _as_text(found)
    elif isinstance(found, str):
        value = _from_word(found.strip(), kind)
    elif isinstance(found, bool | int | float):
        value = _as_number(found, kind)
    if value is None:
        return math.nan, Reason.BAD_PAYLOAD
    if scale is not None and not isinstance(value, str):
        return scale.read(value)
    return value, Reason.NONE


def _as_text(found: Any) -> str | None:
    if isinstance(found, str):
        return found
    return json.dumps(found) if isinstance(found, bool | int | float) else None


def _as_number(found: float, kind: PointType) -> float | None:
    try:
        number = float(found)
    except OverflowError:  # an integer beyond any float
        return None
    return None if kind is PointType.BOOLEAN and number not in {0.0, 1.0} else number


def _from_word(word: str, kind: PointType) -> float | None:
    if kind is PointType.BOOLEAN:
        lowered = word.lower()
        return 1.0 if lowered in _TRUE else 0.0 if lowered in _FALSE else None
    if "_" in word:  # Python reads 1_000, no device writes it
        return None
    try:
        return float(word)
    except ValueError:
        return None
