"""Aggregation policies: windows, their means and coverage, against a reference by brute force."""

import math
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from edge.aggregate import GRACE_US, AggregateSection, Aggregator, aggregate_of
from shared.columns import Columns
from shared.model import Point, PointClass, PointType
from shared.quality import Reason, bad, uncertain
from shared.rollups import Rollups, coverage

S = 1_000_000
START = 1_700_000_000 // 60 * 60 * S
HOLD = 20 * S
BAD = bad(Reason.TIMEOUT)
WIDTHS = (5, 10, 60)

Row = dict[str, Any]


def aggregator(window_s: int = 10, keep: Any = "both", hold_us: int = HOLD) -> Aggregator:
    return Aggregator([AggregateSection(window_s=window_s, keep=keep)], hold_us)


def readings(*each: tuple[float, float] | tuple[float, float, int], series: int = 0) -> Columns:
    """Make readings of one point: seconds after the start, value, quality."""
    at = [START + round(one[0] * S) for one in each]
    quality = [one[2] if len(one) == 3 else 0 for one in each]
    return Columns.of([series] * len(each), at, [one[1] for one in each], quality)


def rows(*found: Rollups) -> list[Row]:
    names = found[0].dtype.names or ()
    return [dict(zip(names, row, strict=True)) for part in found for row in part.tolist()]


def told(found: Rollups) -> tuple[int, int, float, int]:
    (row,) = rows(found)
    return row["start"], row["count"], row["mean"], row["known"]


@dataclass
class Reference:
    """One point, all of whose readings and holes are kept until the end."""

    window: int
    readings: list[tuple[int, float, bool]] = field(default_factory=list)
    holes: list[int] = field(default_factory=list)

    def rollups(self, end: int) -> dict[int, Row]:
        known = self._known(end)
        starts = {at - at % self.window for at, _, _ in self.readings}
        for first, last, _ in known:
            starts |= set(range(first - first % self.window, last, self.window))
        return {start: self._rollup(start, known) for start in starts}

    def _known(self, end: int) -> list[tuple[int, int, float]]:
        parts = []
        for nth, (at, value, is_good) in enumerate(self.readings):
            ends = [one[0] for one in self.readings[nth + 1 : nth + 2]]
            ends += [hole for hole in self.holes if hole >= at]
            last = min([*ends, at + HOLD, end])
            if is_good and last > at:
                parts.append((at, last, value))
        return parts

    def _rollup(self, start: int, known: list[tuple[int, int, float]]) -> Row:
        end = start + self.window
        here = [one for one in self.readings if start <= one[0] < end]
        good = [(at, value) for at, value, is_good in here if is_good]
        values = [value for _, value in good]
        cut = [(min(last, end) - max(first, start), value) for first, last, value in known]
        cut = [(length, value) for length, value in cut if length > 0]
        length = sum(one for one, _ in cut)
        return {
            "count": len(here),
            "good_count": len(good),
            "sum": math.fsum(values),
            "min": min(values, default=math.nan),
            "max": max(values, default=math.nan),
            "first": values[0] if good else math.nan,
            "last": values[-1] if good else math.nan,
            "known": length,
            "mean": math.fsum(part * v for part, v in cut) / length if length else math.nan,
        }


STEPS = st.lists(
    st.tuples(
        st.integers(0, len(WIDTHS) - 1),
        st.integers(1, 30_000_000),
        st.sampled_from([0.0, 1.5, -3.25, 21.0, math.nan, math.inf]),
        st.sampled_from([0, 0, 0, BAD, uncertain(Reason.STALE)]),
        st.sampled_from(["wait", "wait", "take", "due", "silence"]),
    ),
    max_size=40,
)


@given(STEPS)
def test_rollups_are_those_of_the_reference(steps: list[tuple[int, int, float, int, str]]) -> None:
    given_ = Aggregator([AggregateSection(window_s=one) for one in WIDTHS], HOLD)
    reference = [Reference(one * S) for one in WIDTHS]
    waiting: list[tuple[int, int, float, int]] = []
    now, found = START, []

    def flush() -> None:
        series, at, value, quality = zip(*waiting, strict=True) if waiting else ((), (), (), ())
        found.append(given_.take(Columns.of(series, at, value, quality), now))
        waiting.clear()

    for series, step, value, quality, then in steps:
        now += step
        waiting.append((series, now, value, quality))
        reference[series].readings.append((now, value, quality == 0 and math.isfinite(value)))
        if then != "wait":
            flush()
        if then == "due":
            found.append(given_.due(now + GRACE_US))
        if then == "silence":
            found.append(given_.silence(now))
            for one in reference:
                one.holes.append(now)
    flush()
    found.append(given_.close(now + 7 * S))

    assert given_.held == 0
    got = {(row["series"], row["start"]): row for row in rows(*found)}
    wanted = {
        (series, start): row
        for series, one in enumerate(reference)
        for start, row in one.rollups(now + 7 * S).items()
    }
    assert got.keys() == wanted.keys()
    assert len(got) == sum(map(len, found)), "a window in order is told once"
    for name, row in wanted.items():
        assert {key: got[name][key] for key in row} == pytest.approx(row, nan_ok=True), name


def test_a_window_of_a_silent_point_is_closed_by_time_and_holds_its_value() -> None:
    given_ = aggregator()
    assert not len(given_.take(readings((5, 20.0)), START + 5 * S))
    assert not len(given_.due(START + 10 * S)), "readings may be on their way"

    first = given_.due(START + 12 * S)
    second = given_.due(START + 22 * S)

    assert told(first) == (START, 1, 20.0, 5 * S)
    assert told(second) == (START + 10 * S, 0, 20.0, 10 * S)
    assert coverage(second).tolist() == [1.0]


def test_the_mean_is_weighted_by_time_not_by_readings() -> None:
    given_ = aggregator()
    given_.take(readings((0, 0.0), (9, 10.0), (9.5, 10.0)), START + 9 * S)

    (row,) = rows(given_.due(START + 12 * S))

    assert row["mean"] == pytest.approx(1.0)
    assert (row["sum"], row["count"]) == (20.0, 3)


def test_a_stop_tells_the_part_of_a_window_that_is_known() -> None:
    given_ = aggregator()
    given_.take(readings((2, 7.0)), START + 2 * S)

    stopped = given_.close(START + 6 * S)

    assert coverage(stopped).tolist() == [0.4]
    assert given_.held == 0
    assert not len(given_.close(START + 60 * S))


def test_a_late_reading_is_counted_in_its_own_window_and_covers_no_time_twice() -> None:
    given_ = aggregator()
    given_.take(readings((1, 1.0), (11, 2.0)), START + 11 * S)

    early = given_.take(readings((9, 5.0)), START + 12 * S)
    rest = given_.take(readings((13, 3.0)), START + 13 * S)
    late = [row for row in rows(rest) if row["start"] == START]

    assert [row["last"] for row in rows(early)] == [2.0]
    assert [(row["count"], row["sum"]) for row in late] == [(1, 5.0)]
    assert sum(row["known"] for row in late) <= 1 * S


def test_a_jump_of_the_clock_makes_no_flood_of_windows() -> None:
    given_ = aggregator(window_s=1, hold_us=2**60)
    given_.take(readings((0, 1.0)), START)

    assert len(given_.due(START + 30 * 86_400 * S)) == 1
    assert given_.held == 0


def test_an_impossible_time_is_the_time_of_the_gateway() -> None:
    given_ = aggregator()
    given_.take(Columns.of([0], [5], [1.0], [0]), START)

    assert [row["start"] for row in rows(given_.close(START + S))] == [START]


@pytest.mark.parametrize(
    ("keep", "raw", "made"), [("raw", 1, 0), ("rollups", 0, 1), ("both", 1, 1)]
)
def test_readings_rollups_or_both_are_kept(keep: str, raw: int, made: int) -> None:
    given_ = aggregator(keep=keep)
    some = readings((1, 1.0))

    assert [len(part) for part in given_.parted(some)] == [raw, 1 - raw]
    given_.take(some, START + S)
    assert len(given_.close(START + 2 * S)) == made
    assert given_.is_plain is not bool(made)


def test_a_window_that_does_not_part_a_day_is_refused() -> None:
    with pytest.raises(ValidationError, match="no multiple of 7 s"):
        AggregateSection(window_s=7)


def test_the_own_policy_wins_over_that_of_the_class() -> None:
    own, of_class = AggregateSection(window_s=60), AggregateSection(window_s=900)
    by_class = {PointClass.LOW: of_class}

    low, high = (Point("p", "", PointType.NUMBER, one) for one in (PointClass.LOW, PointClass.HIGH))
    assert aggregate_of(own, low, by_class) is own
    assert aggregate_of(None, low, by_class) is of_class
    assert aggregate_of(None, high, by_class) is None


def test_a_text_has_no_rollups() -> None:
    text = Point("p", "", PointType.TEXT, PointClass.LOW)
    assert aggregate_of(None, text, {PointClass.LOW: AggregateSection()}) is None


def test_a_repeated_reading_is_counted_once() -> None:
    given_ = aggregator()
    for _ in range(3):
        given_.take(readings((1, 4.0)), START + S)
    given_.take(readings((2, 4.0)), START + 2 * S)

    assert [row["count"] for row in rows(given_.close(START + 3 * S))] == [2]
