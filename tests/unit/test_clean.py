"""clean() against a naive model that handles one reading at a time."""

import math
from dataclasses import dataclass

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from edge.clean import FUTURE_US, PAST_US, TEXT_LENGTH, clean
from edge.tail import Tail
from shared.batch import decode, encode
from shared.columns import Columns, concatenate
from shared.model import Point, PointSet
from shared.quality import Flag, Reason, bad, class_of, uncertain

POINTS = PointSet(tuple(Point(f"p{nth}") for nth in range(3)))
NOW_US = 1_790_000_000_000_000
TIME_FLAGS = int(Flag.TIME_ADJUSTED | Flag.CLOCK_UNSYNCHRONISED)


@dataclass(frozen=True)
class One:
    """A reading by itself."""

    series: int
    at: int
    value: float
    quality: int
    text: str | None = None

    def seen(self) -> tuple[bytes, int, str | None]:
        return np.float64(self.value).tobytes(), self.quality & ~TIME_FLAGS, self.text


def columns_of(several: list[One]) -> Columns:
    return Columns.of(
        [one.series for one in several],
        [one.at for one in several],
        [one.value for one in several],
        [one.quality for one in several],
        {row: one.text for row, one in enumerate(several) if one.text is not None},
    )


def ones_of(columns: Columns) -> list[One]:
    return [
        One(int(series), int(at), float(value), int(quality), columns.texts.get(row))
        for row, (series, at, value, quality) in enumerate(
            zip(columns.series, columns.observed_at, columns.value, columns.quality, strict=True)
        )
    ]


def naive(several: list[One], last: dict[int, One], flags: int) -> list[One]:
    kept = []
    for one in several:
        value, quality, at, text = one.value, one.quality, one.at, one.text
        if text is not None and len(text) > TEXT_LENGTH:
            quality, text = bad(Reason.TOO_LONG), None
        if not math.isfinite(value):
            if text is None and class_of(quality) < 2:
                quality = bad(Reason.NOT_A_NUMBER)
            value = math.nan
        quality |= flags
        if not NOW_US - PAST_US <= at <= NOW_US + FUTURE_US:
            at, quality = NOW_US, quality | Flag.TIME_ADJUSTED
        here = One(one.series, at, value, quality, text)
        before = last.get(one.series)
        if before is not None and at <= before.at:
            if here.seen() == before.seen():
                continue
            here = One(one.series, before.at + 1, value, quality | Flag.TIME_ADJUSTED, text)
        last[one.series] = here
        kept.append(here)
    return kept


times = st.one_of(
    st.integers(NOW_US, NOW_US + 6),
    st.sampled_from([0, -1, NOW_US - PAST_US - 1, NOW_US + FUTURE_US + 1, 2**62]),
)
values = st.sampled_from([0.0, -0.0, 1.5, math.nan, math.inf, -math.inf])
qualities = st.sampled_from([0, uncertain(Reason.STALE), bad(Reason.SENSOR_FAILURE)])
texts = st.one_of(st.none(), st.sampled_from(["", "on", "x" * (TEXT_LENGTH + 1)]))
readings = st.builds(One, st.integers(0, 2), times, values, qualities, texts)


@given(st.lists(st.lists(readings, max_size=12), max_size=4), st.sampled_from([0, 0x0100]))
def test_readings_are_made_clean_as_one_by_one(parts: list[list[One]], flags: int) -> None:
    tail, last = Tail.fresh(POINTS, NOW_US), dict[int, One]()
    for several in parts:
        cleaned = clean(columns_of(several), tail, NOW_US, flags)
        expected = naive(several, last, flags)
        found = ones_of(cleaned.columns)
        assert [one.seen() for one in found] == [one.seen() for one in expected]
        assert [(one.series, one.at, one.quality) for one in found] == [
            (one.series, one.at, one.quality) for one in expected
        ]
        assert cleaned.repeats == len(several) - len(expected)
        tail.absorb(cleaned.columns)


@given(st.lists(st.lists(readings, max_size=12), max_size=4))
def test_what_is_clean_has_strictly_ascending_times_and_survives_sealing(
    parts: list[list[One]],
) -> None:
    tail = Tail.fresh(POINTS, NOW_US)
    cleaned = []
    for several in parts:
        cleaned.append(clean(columns_of(several), tail, NOW_US).columns)
        tail.absorb(cleaned[-1])
    sealed = decode(encode(concatenate(cleaned)))
    assert len(sealed) == sum(map(len, cleaned))
    same_series = sealed.series[1:] == sealed.series[:-1]
    assert (sealed.observed_at[1:] > sealed.observed_at[:-1])[same_series].all()
    assert np.isfinite(sealed.value[~np.isnan(sealed.value)]).all()


def test_clean_readings_are_not_copied() -> None:
    columns = columns_of([One(0, NOW_US, 1.0, 0), One(1, NOW_US, 2.0, 0)])
    assert clean(columns, Tail.fresh(POINTS, NOW_US), NOW_US).columns.value is columns.value


def test_a_text_with_half_a_character_can_be_kept_and_sent() -> None:
    tail = Tail.fresh(POINTS, NOW_US)
    cleaned = clean(columns_of([One(0, NOW_US, math.nan, 0, "21\ud800 °C")]), tail, NOW_US)
    tail.absorb(cleaned.columns)
    assert cleaned.columns.texts == {0: "21? °C"}
    assert Tail.unpack(tail.pack({}))[0].last_text == decode(encode(cleaned.columns)).texts
