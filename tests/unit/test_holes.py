"""Holes: since when, why, what they cost, and the gaps that declare them."""

from collections.abc import Sequence

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from edge.holes import MOST_GAPS, Gap, GapReason, Holes, dropped
from shared.batch import decode_events, encode_events
from shared.columns import Columns
from shared.quality import Reason, bad


def opened(
    holes: Holes, series: Sequence[int], since: int, missed: int | None, reason: GapReason
) -> None:
    named = np.array(series, np.int32)
    holes.open(named, np.full(len(named), since), reason, missed)


def answers(*rows: tuple[int, int, int]) -> Columns:
    series, at, quality = zip(*rows, strict=True)
    return Columns.of(series, at, [1.0] * len(rows), quality)


def test_a_hole_lies_between_the_last_answer_and_the_first_new_one() -> None:
    holes = Holes(3)
    opened(holes, [0, 2], 100, 1, GapReason.DEVICE_DOWN)
    opened(holes, [0, 2], 150, 1, GapReason.DEVICE_DOWN)
    gaps = holes.close(answers((0, 500, 0), (2, 500, 0), (0, 600, 0)))
    assert gaps == [Gap("missed", GapReason.DEVICE_DOWN, ((0, 0), (2, 2)), 100, 500, 0, 2)]
    assert holes.close(answers((0, 700, 0))) == []


def test_a_reading_that_says_the_link_is_down_is_no_answer() -> None:
    holes = Holes(1)
    opened(holes, [0], 100, 0, GapReason.DEVICE_DOWN)
    assert holes.close(answers((0, 300, bad(Reason.LINK_DOWN)))) == []
    gap = holes.close(answers((0, 400, bad(Reason.SENSOR_FAILURE))))
    assert [(one.from_us, one.to_us, one.missed) for one in gap] == [(100, 400, 0)]


def test_an_open_hole_keeps_its_start_and_first_reason_when_it_deepens() -> None:
    holes = Holes(1)
    opened(holes, [0], 100, 2, GapReason.OVERRUN)
    opened(holes, [0], 200, 3, GapReason.DEVICE_DOWN)
    assert holes.close(answers((0, 900, 0))) == [
        Gap("missed", GapReason.OVERRUN, ((0, 0),), 100, 900, 0, 5)
    ]


def test_a_cost_that_is_partly_unknown_is_unknown() -> None:
    holes = Holes(2)
    opened(holes, [0], 100, None, GapReason.RESTART)
    opened(holes, [0, 1], 100, 3, GapReason.DEVICE_DOWN)
    opened(holes, [1], 100, None, GapReason.DEVICE_DOWN)
    gaps = holes.close(answers((0, 900, 0), (1, 900, 0)))
    assert {gap.missed for gap in gaps} == {None}


def test_a_hole_without_a_moment_in_it_is_no_gap() -> None:
    holes = Holes(1)
    opened(holes, [0], 100, 0, GapReason.OVERRUN)
    assert holes.close(answers((0, 101, 0))) == []
    opened(holes, [0], 200, 1, GapReason.OVERRUN)
    assert holes.close(answers((0, 300, 0)))[0].missed == 1


steps = st.lists(
    st.tuples(
        st.booleans(),
        st.sets(st.integers(0, 4), min_size=1),
        st.integers(1, 50),
        st.one_of(st.none(), st.integers(0, 3)),
    ),
    max_size=20,
)


@given(steps)
def test_every_series_has_the_holes_it_would_have_alone(
    several: list[tuple[bool, set[int], int, int | None]],
) -> None:
    together, found, expected = Holes(5), [], []
    model: dict[int, tuple[int, int | None]] = {}
    now = 0
    for is_opened, series, passed, missed in several:
        now += passed
        if is_opened:
            opened(together, sorted(series), now, missed, GapReason.OVERRUN)
            for one in series:
                since, cost = model.get(one, (now, 0))
                unknown = missed is None or cost is None
                model[one] = (since, None if unknown else (cost or 0) + (missed or 0))
        else:
            for gap in together.close(answers(*((one, now, 0) for one in sorted(series)))):
                found += [
                    (one, gap.from_us, gap.to_us, gap.missed)
                    for first, last in gap.series
                    for one in range(first, last + 1)
                ]
            ended = [(one, *model.pop(one)) for one in sorted(series) if one in model]
            expected += [(one, at, now, cost) for one, at, cost in ended if now - at > 1]
    assert sorted(found, key=str) == sorted(expected, key=str)


def test_gaps_of_dropped_readings_cover_each_point_over_its_own_times() -> None:
    parts = [answers((0, 50, 0), (1, 50, 0)), answers((4, 60, 0), (1, 40, 0)), Columns.empty()]
    gaps = dropped(GapReason.OUTBOX_FULL, parts, {9: [3, 4, 7]}, (4, 0))
    assert [(gap.series, gap.from_us, gap.to_us, gap.count) for gap in gaps] == [
        (((0, 0),), 49, 51, 1),
        (((1, 1),), 39, 51, 2),
        (((4, 4),), 59, 61, 1),
    ]
    assert [gap.voided for gap in gaps] == [((9, ((3, 4), (7, 7))),), (), ()]


def test_too_many_gaps_of_dropped_readings_are_told_as_one() -> None:
    many = answers(*((series, series, 0) for series in range(MOST_GAPS + 1)))
    (gap,) = dropped(GapReason.OUTBOX_FULL, [many], {9: [3]}, (len(many), 0))
    assert (gap.from_us, gap.to_us, gap.count) == (-1, MOST_GAPS + 1, MOST_GAPS + 1)


def test_a_hole_whose_begin_lay_ahead_of_the_clock_begins_where_it_was_opened() -> None:
    holes = Holes(1)
    ahead = np.array([9_000], np.int64)
    holes.open(np.array([0], np.int32), ahead, GapReason.DEVICE_DOWN, 1, at_us=500)
    (gap,) = holes.close(answers((0, 700, 0)))
    assert (gap.from_us, gap.to_us) == (500, 700)


def test_a_gap_is_an_event_that_the_other_side_reads() -> None:
    gap = Gap("dropped", GapReason.TOO_OLD, ((0, 3),), 1, 9, 5, None, ((7, ((1, 2),)),))
    (event,) = decode_events(encode_events([gap.event()]))
    assert len(event.pop("id")) == 16
    assert event == {
        "event": "gap",
        "cause": "dropped",
        "reason": "too_old",
        "series": [[0, 3]],
        "from_us": 1,
        "to_us": 9,
        "count": 5,
        "missed": None,
        "voided": [{"epoch": 7, "seqs": [[1, 2]]}],
    }
