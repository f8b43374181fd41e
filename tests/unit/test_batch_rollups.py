"""Rollups: parts of a window add up in any order, and a body gives back what went in."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.batch import decode, decode_rollups, encode, encode_rollups
from shared.columns import Columns
from shared.errors import BatchInvalid
from shared.rollups import ROLLUP, Rollups, combined, no_rollups

S = 1_000_000
NOW = 1_790_000_000 * S
NUMBERS = ("sum", "min", "max", "mean", "first", "last")
VALUES = st.floats(-1e9, 1e9) | st.sampled_from([0.1, 21.5, -0.0])


@st.composite
def rollup(draw: st.DrawFn, series: int = 8, windows: int = 10_000) -> tuple[float, ...]:
    width = draw(st.sampled_from([60, 900])) * S
    start = NOW + draw(st.integers(0, windows)) * width
    good = draw(st.integers(0, 3))
    count = good + draw(st.integers(0, 3))
    known = draw(st.integers(0, width)) if good else 0
    first, last = sorted(draw(st.tuples(*[st.integers(0, width - 1)] * 2)))
    low, middle, high = sorted(draw(st.tuples(*[VALUES] * 3)))
    if not good:
        nan = np.nan
        return (draw(st.integers(0, series)), start, width, count, 0, 0.0, *[nan] * 5, 0, 0, 0)
    numbers = (middle * good, low, high, middle if known else np.nan, low, high)
    ends = (start + first, start + last)
    return (draw(st.integers(0, series)), start, width, count, good, *numbers, *ends, known)


MANY = st.lists(rollup(), max_size=40).map(lambda rows: np.array(rows, ROLLUP))
FEW_WINDOWS = st.lists(rollup(series=1, windows=1), max_size=12).map(
    lambda rows: np.array(rows, ROLLUP)
)


def ordered(rollups: Rollups) -> Rollups:
    return rollups[np.lexsort((rollups["start"], rollups["width"], rollups["series"]))]


@given(MANY)
def test_a_body_gives_back_every_row_to_the_bit(rollups: Rollups) -> None:
    assert decode_rollups(encode_rollups(rollups)).tobytes() == ordered(rollups).tobytes()


@given(FEW_WINDOWS, st.randoms(use_true_random=False), st.integers(0, 12))
def test_parts_of_a_window_add_up_in_any_order_and_grouping(
    rollups: Rollups, random: np.random.Generator, cut: int
) -> None:
    # The earlier of two readings at one time may be either: times are made to differ.
    rollups["first_at"] += np.where(rollups["good_count"] > 0, np.arange(len(rollups)), 0)
    rollups["last_at"] += np.where(rollups["good_count"] > 0, np.arange(len(rollups)), 0)
    order = list(range(len(rollups)))
    random.shuffle(order)
    shuffled = rollups[order]
    whole = combined(rollups)
    parts = combined(np.concatenate([combined(shuffled[:cut]), combined(shuffled[cut:])]))
    for name in ROLLUP.names or ():
        scale = 1e9 if name in NUMBERS else 0
        np.testing.assert_allclose(
            whole[name].astype(float), parts[name].astype(float), rtol=1e-9, atol=1e-9 * scale
        )
    assert int(whole["count"].sum()) == int(rollups["count"].sum())
    assert int(whole["known"].sum()) == int(rollups["known"].sum())


def test_no_rows_make_a_body() -> None:
    assert len(decode_rollups(encode_rollups(no_rollups()))) == 0
    assert len(combined(no_rollups())) == 0


@given(MANY, st.integers(0, 10_000), st.integers(0, 255))
def test_a_changed_byte_is_refused(rollups: Rollups, place: int, value: int) -> None:
    body = bytearray(encode_rollups(rollups))
    place %= len(body)
    if body[place] == value:
        value ^= 1
    body[place] = value
    with pytest.raises(BatchInvalid):
        decode_rollups(bytes(body))


def row(**changes: float) -> Rollups:
    rows = np.zeros(1, ROLLUP)
    rows["start"], rows["width"], rows["count"], rows["good_count"] = NOW, 60 * S, 2, 1
    rows["known"], rows["first_at"], rows["last_at"] = 30 * S, NOW, NOW + S
    for name, value in changes.items():
        rows[name] = value
    return rows


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"series": -1}, "bad_series"),
        ({"series": 5}, "bad_series"),
        ({"width": 0}, "bad_rollup"),
        ({"width": 367 * 86_400 * S}, "bad_rollup"),
        ({"start": 2**62}, "bad_rollup"),
        ({"start": -(2**62)}, "bad_rollup"),
        ({"known": 61 * S}, "bad_rollup"),
        ({"known": -1}, "bad_rollup"),
        ({"good_count": 3}, "bad_rollup"),
        ({"count": -1}, "bad_rollup"),
        ({"last_at": NOW + 60 * S}, "bad_rollup"),
        ({"first_at": NOW - 1}, "bad_rollup"),
        ({"first_at": NOW + 2 * S}, "bad_rollup"),
    ],
)
def test_what_cannot_be_is_refused(changes: dict[str, int], code: str) -> None:
    with pytest.raises(BatchInvalid) as caught:
        decode_rollups(encode_rollups(row(**changes)), points=5)
    assert caught.value.code == code


def test_bodies_of_one_kind_are_not_read_as_another() -> None:
    readings, rollups = encode(Columns.of([0], [NOW], [1.0], [0])), encode_rollups(row())
    with pytest.raises(BatchInvalid, match="kind 1; 2 is read here"):
        decode_rollups(readings)
    with pytest.raises(BatchInvalid, match="kind 2; 1 is read here"):
        decode(rollups)


def test_a_day_of_a_meter_is_small() -> None:
    rows = np.repeat(row(), 20 * 96)
    rows["series"] = np.repeat(np.arange(20), 96)
    rows["start"] = np.tile(NOW + np.arange(96) * 900 * S, 20)
    rows["width"], rows["count"], rows["good_count"], rows["known"] = 900 * S, 90, 90, 900 * S
    rows["first_at"], rows["last_at"] = rows["start"] + 3 * S, rows["start"] + 893 * S
    value = np.round(20 + np.random.default_rng(1).standard_normal(len(rows)).cumsum() / 10, 1)
    for name in NUMBERS:
        rows[name] = value * (90 if name == "sum" else 1)

    assert len(encode_rollups(rows)) < 30 * len(rows)
