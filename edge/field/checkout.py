"""The words of a check-out: each point of a building held against what was expected of it.

What a person says and what the gateway shows at that moment become one verdict; see `judged`.
"""

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from edge.field.shown import Shown
from edge.field.tolerance import is_within, usual
from shared.errors import SpineError
from shared.model import PointType

Expected = float | str | None

_TRUE: Final = frozenset({"1", "1.0", "true", "on", "yes", "active", "open"})
_FALSE: Final = frozenset({"0", "0.0", "false", "off", "no", "inactive", "closed"})


class CheckOutRefused(SpineError):
    """Something cannot be recorded; `code` is stable, the text says what to do."""

    def __init__(self, code: str, detail: str) -> None:
        """Keep the code and what it is about."""
        self.code = code
        super().__init__(detail)


class Verdict(StrEnum):
    """What became of a point."""

    PASS = "pass"  # noqa: S105 - no password
    FAIL = "fail"
    NA = "na"


@dataclass(frozen=True, slots=True)
class Finding:
    """What a person says of a point, looking at the plant; `tolerance` None is that of the unit."""

    by: str
    expected: Expected = None
    tolerance: float | None = None
    verdict: Verdict | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Record:
    """One test of a point: never changed, only followed by another."""

    key: str
    expected: Expected
    tolerance: float | None
    value: float | None
    text: str | None
    quality: int | None
    observed_at: int | None
    verdict: Verdict
    note: str
    by: str
    at_us: int

    @property
    def deviation(self) -> float | None:
        """Tell by how much the shown value was above the expected one, where both are numbers."""
        if isinstance(self.expected, float) and self.value is not None:
            return self.value - self.expected
        return None


@dataclass(frozen=True, slots=True)
class Item:
    """A point to be checked, with its last record."""

    key: str
    device: str
    unit: str
    type: PointType
    record: Record | None = None
    tests: int = 0


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a check-out is."""

    total: int
    passed: int = 0
    failed: int = 0
    na: int = 0

    @property
    def done(self) -> int:
        """Count the points that have a verdict."""
        return self.passed + self.failed + self.na


@dataclass(frozen=True, slots=True)
class Head:
    """A check-out of a building, or of a part of it, and how far it is."""

    number: int
    title: str
    by: str
    at_us: int
    closed_us: int | None
    progress: Progress


@dataclass(frozen=True, slots=True)
class CheckOut:
    """A check-out with its points."""

    head: Head
    items: tuple[Item, ...]


def judged(item: Item, finding: Finding, shown: Shown | None, now_us: int) -> Record:
    """Make the record of a point from what a person says and what the gateway shows.

    Without a verdict the numbers decide. A person may fail a point that shows the right value, or
    say that it does not apply, but not pass one whose value is bad or too far away: then the
    tolerance is to be changed, and stands in the record. Raises `CheckOutRefused`.
    """
    expected = _expected(item, finding.expected)
    tolerance = _tolerance(item, finding, expected)
    verdict = finding.verdict
    if verdict is None or verdict is Verdict.PASS:
        verdict = _compared(expected, tolerance, finding, shown)
    return Record(
        item.key,
        expected,
        tolerance,
        None if shown is None else shown.value,
        None if shown is None else shown.text,
        None if shown is None else shown.quality,
        None if shown is None else shown.observed_at,
        verdict,
        finding.note,
        finding.by,
        now_us,
    )


def _compared(
    expected: Expected, tolerance: float | None, finding: Finding, shown: Shown | None
) -> Verdict:
    says_pass = finding.verdict is Verdict.PASS
    if shown is None or (shown.is_bad and says_pass):
        said = "was not read yet" if shown is None else shown.words
        text = f"there is no value to hold against ({said}): see to the device, or let it fail"
        raise CheckOutRefused("no_value", text)
    if expected is None:
        if says_pass:
            return Verdict.PASS
        text = "say what is expected, or give the verdict yourself: pass, fail or na"
        raise CheckOutRefused("expected_missing", text)
    if not shown.is_bad and _agrees(expected, tolerance, shown):
        return Verdict.PASS
    if says_pass:
        text = (
            f"{shown.said} is not what is expected ({expected}): change the tolerance, or fail it"
        )
        raise CheckOutRefused("verdict_contradicts", text)
    return Verdict.FAIL


def _agrees(expected: float | str, tolerance: float | None, shown: Shown) -> bool:
    if isinstance(expected, str):
        return shown.text is not None and shown.text.strip() == expected.strip()
    return shown.value is not None and is_within(shown.value, expected, tolerance or 0.0)


def _expected(item: Item, expected: Expected) -> Expected:
    if expected is None or item.type is PointType.TEXT:
        return None if expected is None else str(expected)
    word = str(expected).strip().lower()
    if item.type is PointType.BOOLEAN and word in _TRUE | _FALSE:
        return 1.0 if word in _TRUE else 0.0
    try:
        number = float(word.replace(",", "."))
    except ValueError:
        number = float("nan")
    if not math.isfinite(number):
        kind = "on or off" if item.type is PointType.BOOLEAN else "a number"
        raise CheckOutRefused("expected_wrong", f"{item.key}: {kind} is expected of this point")
    return number


def _tolerance(item: Item, finding: Finding, expected: Expected) -> float | None:
    if not isinstance(expected, float):
        return None
    if finding.tolerance is not None:
        return finding.tolerance
    return 0.0 if item.type is PointType.BOOLEAN else usual(item.unit).at(expected)
