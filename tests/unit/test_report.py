"""Report policies: reported, held or suppressed, against a reference of one reading at a time."""

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from edge.report import ReportSection, Shaper, policy_of
from shared.columns import Columns
from shared.model import PointClass
from shared.quality import QualityClass, Reason, bad, class_of, reason_of

S = 1_000_000
BAD = bad(Reason.TIMEOUT)

Reading = tuple[int, int, float, int]
"""Series, time in seconds, value, quality."""


def columns(*readings: Reading) -> Columns:
    series, at, value, quality = zip(*readings, strict=True) if readings else ((), (), (), ())
    return Columns.of(series, [one * S for one in at], value, quality)


def rows(found: Columns) -> list[Reading]:
    return [
        (series, at // S, value, quality)
        for series, at, value, quality in zip(
            found.series.tolist(),
            found.observed_at.tolist(),
            found.value.tolist(),
            found.quality.tolist(),
            strict=True,
        )
    ]


def values_of(shaper: Shaper, *values: float, step_s: int = 1) -> list[float]:
    """Feed one point's values, one each step; give those that are reported at once."""
    passed: list[float] = []
    for nth, value in enumerate(values):
        at = nth * step_s
        passed += shaper.shape(columns((0, at, value, 0)), at * S).columns.value.tolist()
    return passed


def test_with_nothing_set_every_reading_is_reported() -> None:
    shaper = Shaper([ReportSection()])

    assert shaper.is_plain
    assert values_of(shaper, 1, 1, 1) == [1, 1, 1]


@pytest.mark.parametrize(
    ("policy", "values", "reported"),
    [
        ({"on_change": True}, (1, 1, 2, 2, 1), [1, 2, 1]),
        ({"deadband": 0.5}, (20, 20.4, 20.5, 20.6, 20.2), [20, 20.6]),
        ({"deadband_percent": 10}, (100, 109, 111, 101), [100, 111]),
        ({"deadband": 5, "deadband_percent": 1}, (100, 104, 106), [100, 106]),
        ({"on_change": True, "max_silence_s": 3}, (1, 1, 1, 1, 1, 1, 1), [1, 1, 1]),
    ],
)
def test_values_are_reported_by_the_policy(
    policy: dict[str, Any], values: tuple[float, ...], reported: list[float]
) -> None:
    assert values_of(Shaper([ReportSection(**policy)]), *values) == reported


def test_a_change_of_quality_is_always_reported() -> None:
    shaper = Shaper([ReportSection(deadband=100, min_interval_s=60)])

    fed = columns((0, 0, 1.0, 0), (0, 1, math.nan, BAD), (0, 2, math.nan, BAD), (0, 3, 1.0, 0))
    shaped = shaper.shape(fed, 3 * S)

    assert [row[1] for row in rows(shaped.columns)] == [0, 1, 3]
    assert shaped.suppressed == 1


def test_the_last_value_in_an_interval_is_reported_at_its_end_with_its_own_time() -> None:
    shaper = Shaper([ReportSection(min_interval_s=10, on_change=True)])

    shaped = shaper.shape(columns((0, 0, 1.0, 0), (0, 2, 2.0, 0), (0, 4, 3.0, 0)), 4 * S)
    assert rows(shaped.columns) == [(0, 0, 1.0, 0)]
    assert (shaped.suppressed, shaper.held) == (1, 1)
    assert shaper.next_due_us() == 10 * S
    assert len(shaper.due(9 * S)) == 0

    assert rows(shaper.due(10 * S)) == [(0, 4, 3.0, 0)]
    assert shaper.held == 0
    assert len(shaper.shape(columns((0, 12, 4.0, 0)), 12 * S).columns) == 0
    assert rows(shaper.due(20 * S)) == [(0, 12, 4.0, 0)]


def test_a_value_that_goes_back_within_its_interval_leaves_nothing_to_report() -> None:
    shaper = Shaper([ReportSection(min_interval_s=10, on_change=True)])

    shaped = shaper.shape(columns((0, 0, 1.0, 0), (0, 2, 2.0, 0), (0, 4, 1.0, 0)), 4 * S)

    assert (len(shaped.columns), shaped.suppressed, shaper.held) == (1, 2, 0)


def test_a_silent_point_is_told_stale_once_and_its_next_reading_is_reported() -> None:
    shaper = Shaper([ReportSection(stale_s=5, on_change=True), ReportSection()])
    shaper.shape(columns((0, 0, 1.0, 0), (1, 0, 1.0, 0)), 0)

    assert shaper.next_due_us() == 5 * S
    (stale,) = rows(shaper.due(5 * S))
    assert (stale[0], stale[1]) == (0, 5)
    assert class_of(stale[3]) is QualityClass.BAD
    assert reason_of(stale[3]) is Reason.STALE
    assert len(shaper.due(60 * S)) == 0
    assert shaper.next_due_us() is None

    assert rows(shaper.shape(columns((0, 61, 1.0, 0)), 61 * S).columns) == [(0, 61, 1.0, 0)]


def test_a_clock_that_goes_back_holds_nothing_up() -> None:
    shaper = Shaper([ReportSection(min_interval_s=3_600, on_change=True)])
    shaper.shape(columns((0, 100_000, 1.0, 0)), 0)

    assert len(shaper.shape(columns((0, 50, 1.0, 0)), 0).columns) == 1


def test_after_a_silence_of_the_device_every_point_is_reported_anew() -> None:
    shaper = Shaper([ReportSection(on_change=True)])
    assert values_of(shaper, 1) == [1]

    shaper.reset()

    assert len(shaper.shape(columns((0, 5, 1.0, 0)), 5 * S).columns) == 1


def test_another_text_is_a_change() -> None:
    shaper = Shaper([ReportSection(on_change=True)])
    fed = Columns.of(
        [0] * 4, [0, S, 2 * S, 3 * S], [math.nan] * 4, [0] * 4, dict(enumerate("aabb"))
    )

    shaped = shaper.shape(fed, 3 * S)

    assert shaped.columns.texts == {0: "a", 1: "b"}
    assert shaped.suppressed == 2


def test_a_points_own_policy_wins_over_that_of_its_class() -> None:
    own, low = ReportSection(deadband=1), ReportSection(deadband=2)

    assert policy_of(own, PointClass.LOW, {PointClass.LOW: low}) is own
    assert policy_of(None, PointClass.LOW, {PointClass.LOW: low}) is low
    assert policy_of(None, PointClass.HIGH, {PointClass.LOW: low}).is_plain


@pytest.mark.parametrize(
    "wrong",
    [
        {"deadband": -1},
        {"deadband": math.inf},
        {"max_silence_s": 0},
        {"min_interval_s": 10, "max_silence_s": 5},
        {"surplus": 1},
    ],
)
def test_wrong_policies_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ReportSection(**wrong)


@dataclass
class Reference:
    """One point, one reading at a time, in plain words."""

    policy: ReportSection
    last: Reading | None = None
    held: tuple[int, Reading] | None = None
    interval_from: int = 0
    reported: list[Reading] = field(default_factory=list)

    def feed(self, reading: Reading, now: int) -> None:
        self.held = None
        if self.last is None or reading[3] != self.last[3] or reading[1] < self.interval_from:
            self._report(reading)
            return
        elapsed = reading[1] - self.interval_from
        silence = self.policy.max_silence_s
        if (silence and elapsed >= silence) or not self._only_changes() or self._is_other(reading):
            if elapsed >= self.policy.min_interval_s:
                self._report(reading)
            else:
                self.held = now + int(self.policy.min_interval_s) - elapsed, reading

    def tick(self, now: int) -> None:
        if self.held and self.held[0] <= now:
            ends = self.interval_from + int(self.policy.min_interval_s)
            reading, self.held = self.held[1], None
            self._report(reading)
            self.interval_from = max(self.interval_from, ends)

    def _report(self, reading: Reading) -> None:
        self.last, self.interval_from = reading, reading[1]
        self.reported.append(reading)

    def _only_changes(self) -> bool:
        return self.policy.on_change or self.policy.deadband > 0 or self.policy.deadband_percent > 0

    def _is_other(self, reading: Reading) -> bool:
        assert self.last is not None
        limit = max(self.policy.deadband, self.policy.deadband_percent / 100 * abs(self.last[2]))
        return abs(reading[2] - self.last[2]) > limit


policies = st.builds(
    ReportSection,
    on_change=st.booleans(),
    deadband=st.sampled_from([0.0, 1.0, 3.0]),
    deadband_percent=st.sampled_from([0.0, 50.0]),
    min_interval_s=st.sampled_from([0, 3, 10]),
    max_silence_s=st.sampled_from([None, 10, 15]),
)
steps = st.lists(
    st.tuples(
        st.integers(0, 6),
        st.lists(
            st.tuples(st.integers(0, 2), st.integers(-2, 1), st.integers(0, 8), st.integers(0, 5)),
            max_size=6,
        ),
    ),
    max_size=30,
)


@given(st.lists(policies, min_size=3, max_size=3), steps)
def test_columns_at_once_do_what_one_reading_at_a_time_does(
    chosen: list[ReportSection], course: list[tuple[int, list[tuple[int, int, int, int]]]]
) -> None:
    shaper = Shaper(chosen)
    references = [Reference(policy) for policy in chosen]
    reported: list[Reading] = []
    fed = suppressed = now = 0
    for wait, batch in course:
        now += wait
        for reference in references:
            reference.tick(now)
        reported += rows(shaper.due(now * S))
        readings = [
            (series, now + shift, float(value), BAD if quality == 0 else 0)
            for series, shift, value, quality in batch
        ]
        for reading in readings:
            references[reading[0]].feed(reading, now)
        shaped = shaper.shape(columns(*readings), now * S)
        reported += rows(shaped.columns)
        fed += len(readings)
        suppressed += shaped.suppressed

    for series, reference in enumerate(references):
        assert [row for row in reported if row[0] == series] == reference.reported
    assert fed == len(reported) + suppressed + shaper.held


def test_a_reading_that_passes_is_not_copied() -> None:
    shaper = Shaper([ReportSection(on_change=True)] * 3)
    fed = columns((0, 0, 1.0, 0), (1, 0, 1.0, 0), (2, 0, 1.0, 0))

    assert shaper.shape(fed, 0).columns is fed
    assert (
        np.shares_memory(fed.value, shaper.shape(columns((0, 9, 2.0, 0)), 0).columns.value) is False
    )
