"""Sets of seqs as ranges agree with plain sets."""

from hypothesis import given
from hypothesis import strategies as st

from central.ingress.ranges import difference, holds, normal
from shared.link import ranges_of

Sets = st.sets(st.integers(0, 40))


def members(ranges: tuple[tuple[int, int], ...]) -> set[int]:
    return {seq for first, last in ranges for seq in range(first, last + 1)}


@given(Sets, Sets)
def test_difference_is_that_of_sets_and_normal(left: set[int], right: set[int]) -> None:
    found = difference(ranges_of(list(left)), ranges_of(list(right)))
    assert members(found) == left - right
    assert found == ranges_of(list(left - right))


@given(Sets, st.integers(-2, 45))
def test_holds_is_membership(seqs: set[int], seq: int) -> None:
    assert holds(ranges_of(list(seqs)), seq) == (seq in seqs)


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 5))))
def test_normal_keeps_members_and_joins_what_touches(parts: list[tuple[int, int]]) -> None:
    ranges = [(first, first + length) for first, length in parts]
    found = normal(ranges)
    assert members(found) == members(tuple(ranges))
    assert found == ranges_of(list(members(found)))
