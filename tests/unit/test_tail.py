"""The tail: what it absorbs, how it is packed, and how it moves to another point set."""

import math
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.tail import Tail
from edge.tokens import KEPT_US, Tokens
from shared.columns import Columns
from shared.model import Point, PointSet
from shared.quality import Reason, bad

NOW_US = 1_790_000_000_000_000
ARRAYS = ("known_since", "last_at", "last_value", "last_quality")


def points(*names: str) -> PointSet:
    return PointSet(tuple(Point(name) for name in names))


def full_tail(count: int = 4) -> Tail:
    tail = Tail.fresh(points(*(f"p{nth}" for nth in range(count))), NOW_US)
    rows = list(range(count))
    at = [NOW_US + 10 * row for row in rows]
    quality = [bad(Reason.LINK_DOWN) if row % 2 else 0 for row in rows]
    value = [math.nan if row % 2 else -0.0 for row in rows]
    tail.absorb(Columns.of(rows, at, value, quality, {0: "on"}))
    tail.remember("sensor", [b"a", b"b", b"c"], NOW_US, 2)
    return tail


def same(one: Tail, other: Tail) -> bool:
    arrays = all(getattr(one, name).tobytes() == getattr(other, name).tobytes() for name in ARRAYS)
    known = (one.last_text, one.tokens, one.point_set)
    return arrays and known == (other.last_text, other.tokens, other.point_set)


def test_the_last_reading_of_each_series_is_known() -> None:
    tail = Tail.fresh(points("a", "b"), NOW_US)
    quality = [0, bad(Reason.LINK_DOWN), 7]
    tail.absorb(Columns.of([0, 0, 1], [10, 20, 15], [1.0, math.nan, 3.0], quality, {2: "x"}))
    assert tail.last_at.tolist() == [10, 15]
    assert tail.last_quality.tolist() == [0, 7]
    assert tail.last_text == {1: "x"}
    tail.absorb(Columns.of([1], [16], [4.0], [0]))
    assert tail.last_text == {}
    assert tail.last_value[1] == 4.0


def test_a_hole_begins_at_the_last_answer_or_when_the_point_was_first_known() -> None:
    tail = full_tail()
    assert tail.hole_from().tolist() == [NOW_US, NOW_US, NOW_US + 20, NOW_US]


def test_a_packed_tail_comes_back_with_what_was_packed_with_it() -> None:
    tail = full_tail()
    back, rest = Tail.unpack(tail.pack({"stopped": True, "index": [[1, [[0, 3]], 9]]}))
    assert same(back, tail)
    assert rest == {"stopped": True, "index": [[1, [[0, 3]], 9]]}
    back.remember("sensor", [b"d"], NOW_US, 2)
    assert list(back.tokens["sensor"]) == [b"c", b"d"]


@pytest.mark.parametrize("seed", range(50))
def test_a_damaged_tail_is_recognised(seed: int) -> None:
    rng = random.Random(seed)
    body = bytearray(full_tail().pack({}))
    if rng.random() < 0.3:
        del body[rng.randrange(len(body)) :]
    else:
        body[rng.randrange(len(body))] ^= 1 << rng.randrange(8)
    with pytest.raises(ValueError, match="damaged tail"):
        Tail.unpack(bytes(body))


def test_a_copy_changes_alone() -> None:
    tail, packed = full_tail(), full_tail().pack({})
    other = tail.copy()
    other.absorb(Columns.of([0, 1], [NOW_US * 2] * 2, [5.0, 6.0], [0, 0], {1: "y"}))
    other.remember("sensor", [b"z"], NOW_US, 2)
    assert tail.pack({}) == packed


def test_only_the_newest_tokens_are_kept() -> None:
    tail = full_tail()
    assert list(tail.tokens["sensor"]) == [b"b", b"c"]
    tail.remember("sensor", [b"d"], NOW_US, 5)
    assert list(tail.tokens["sensor"]) == [b"b", b"c", b"d"]


def test_tokens_that_surely_arrived_are_forgotten() -> None:
    tail = full_tail()
    tail.remember("sensor", [b"d"], NOW_US + KEPT_US, 5)
    assert list(tail.tokens["sensor"]) == [b"b", b"c", b"d"]
    tail.remember("sensor", [b"e"], NOW_US + KEPT_US + 1, 5)
    assert list(tail.tokens["sensor"]) == [b"d", b"e"]


@given(
    st.lists(st.tuples(st.integers(0, 200), st.integers(0, 30)), max_size=30), st.integers(1, 40)
)
def test_tokens_are_the_newest_few_of_the_last_while(
    several: list[tuple[int, int]], kept: int
) -> None:
    tokens, at_us = Tokens(), NOW_US
    model: list[tuple[int, bytes]] = []
    for seconds, count in several:
        at_us += seconds * 1_000_000
        new = [bytes([len(model) % 256, nth]) for nth in range(count)]
        tokens.add(new, at_us, kept)
        model += [(at_us, one) for one in new]
        expected = [one for at, one in model if at >= at_us - KEPT_US - 1_000_000][-kept:]
        known = list(tokens)
        assert known == expected[len(expected) - len(known) :]
        sure = [one for at, one in model if at >= at_us - KEPT_US + 1_000_000][-kept:]
        assert known[len(known) - len(sure) :] == sure


names = st.lists(st.sampled_from("abcdefgh"), unique=True, max_size=8)


@given(names, names)
def test_a_move_to_other_points_keeps_what_is_known_of_each_key(
    before: list[str], after: list[str]
) -> None:
    tail = Tail.fresh(points(*before), NOW_US)
    rows = list(range(len(before)))
    texts = {row: before[row] for row in rows}
    quality = [0x0100 * row for row in rows]
    tail.absorb(Columns.of(rows, [NOW_US + row + 1 for row in rows], rows, quality, texts))
    moved = tail.moved_to(points(*after), NOW_US + 500)
    for at, name in enumerate(after):
        if name in before:
            old = before.index(name)
            assert moved.last_at[at] == tail.last_at[old]
            assert moved.last_value[at] == tail.last_value[old]
            assert moved.last_quality[at] == tail.last_quality[old]
            assert moved.last_text[at] == name
            assert moved.known_since[at] == NOW_US
        else:
            assert (moved.last_at[at], moved.known_since[at]) == (0, NOW_US + 500)
            assert np.isnan(moved.last_value[at])
            assert at not in moved.last_text
