"""SeqSet against a plain set of integers."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from shared.link import Range, ranges_of
from shared.seqs import SeqSet

ranges = st.tuples(st.integers(0, 60), st.integers(0, 12)).map(lambda one: (one[0], sum(one)))


def seqs_in(several: Sequence[Range]) -> set[int]:
    return {seq for first, last in several for seq in range(first, last + 1)}


@given(st.lists(ranges, max_size=12))
def test_a_set_of_ranges_holds_their_seqs_in_few_ranges(several: list[Range]) -> None:
    here = SeqSet(several)
    assert here.ranges() == ranges_of(list(seqs_in(several)))
    assert len(here) == len(seqs_in(several))
    assert bool(here) == bool(several)
    assert list(here) == list(here.ranges())


@given(st.lists(st.tuples(st.booleans(), ranges), max_size=25))
def test_adding_and_discarding_follow_a_plain_set(steps: list[tuple[bool, Range]]) -> None:
    here, model = SeqSet(), set[int]()
    for is_added, (first, last) in steps:
        if is_added:
            here.add(first, last)
            model |= set(range(first, last + 1))
        else:
            here.discard(first, last)
            model -= set(range(first, last + 1))
        assert here.ranges() == ranges_of(list(model))
        assert {seq for seq in range(-1, 80) if seq in here} == model


@given(st.lists(ranges, max_size=10), ranges)
def test_what_is_common_with_a_range_is_its_part_of_the_set(
    several: list[Range], window: Range
) -> None:
    common = SeqSet(several).common(*window)
    assert seqs_in(common) == seqs_in(several) & seqs_in([window])
    assert tuple(common) == ranges_of(list(seqs_in(common)))


@given(st.lists(ranges, max_size=10), st.lists(ranges, max_size=10))
def test_minus_is_the_difference_of_sets(left: list[Range], right: list[Range]) -> None:
    found = SeqSet(left).minus(SeqSet(right))
    assert found == ranges_of(list(seqs_in(left) - seqs_in(right)))


def test_seqs_up_to_the_largest_are_held() -> None:
    here = SeqSet([(2**62 - 2, 2**62 - 1)])
    assert 2**62 - 1 in here
    assert 2**62 not in here
