"""What a session is told of its settled batches: each range once, totals of the same snapshot."""

from hypothesis import given
from hypothesis import strategies as st

from central.ingress.told import Told
from central.storage.settled import SettledRow
from shared.link import Range, ranges_of


def row(seqs: list[int], version: int, epoch: int = 7) -> SettledRow:
    return SettledRow(1, epoch, ranges_of(seqs), 10 * len(seqs), 0, 0, version)


def told(of: Told) -> list[tuple[tuple[Range, ...], int]]:
    return [(each.seqs, each.delivered) for each in of.due()]


def followed() -> Told:
    made = Told()
    made.follow(7)
    return made


def test_what_is_new_is_told_once_with_the_totals_of_all() -> None:
    session = followed()
    assert session.offer(row([0, 1], 1))
    assert told(session) == [(((0, 1),), 20)]
    assert told(session) == []
    assert session.offer(row([0, 1, 2, 5], 2))
    assert told(session) == [(((2, 2), (5, 5)), 40)]


def test_an_older_snapshot_never_replaces_a_newer_one() -> None:
    session = followed()
    session.offer(row([0, 1, 2], 5))
    assert not session.offer(row([0], 4))
    assert not session.offer(row([0, 1, 2], 5))
    assert told(session) == [(((0, 2),), 30)]


def test_an_epoch_that_is_not_followed_is_not_told() -> None:
    session = followed()
    assert not session.offer(row([0], 1, epoch=8))
    assert told(session) == []


def test_a_batch_sent_again_is_told_again() -> None:
    session = followed()
    session.offer(row([0, 1], 1))
    session.due()
    assert session.is_settled(7, 1)
    assert not session.is_settled(7, 2)
    session.repeat(7, 1)
    assert told(session) == [(((1, 1),), 20)]
    assert told(session) == []


def test_welcome_lists_every_epoch_also_those_with_nothing() -> None:
    session = followed()
    session.follow(9)
    session.offer(row([3], 1))
    welcome = {each.epoch: (each.seqs, each.delivered) for each in session.welcome()}
    assert welcome == {7: (((3, 3),), 10), 9: ((), 0)}
    assert told(session) == []


def test_an_epoch_that_could_not_be_read_is_read_again() -> None:
    session = followed()
    session.unfollow([7])
    assert not session.knows(7)


@given(st.lists(st.sets(st.integers(0, 30)), max_size=8), st.lists(st.booleans(), max_size=8))
def test_ranges_told_add_up_to_the_newest_row(steps: list[set[int]], tells: list[bool]) -> None:
    session, settled, heard = followed(), set[int](), set[int]()
    for version, (more, is_told) in enumerate(zip(steps, tells, strict=False), 1):
        settled |= more
        session.offer(row(sorted(settled), version))
        if is_told:
            heard |= _members(session)
    heard |= _members(session)
    assert heard == settled


def _members(session: Told) -> set[int]:
    new: set[int] = set()
    for each in session.due():
        for first, last in each.seqs:
            new |= set(range(first, last + 1))
        assert each.delivered % 10 == 0
    return new
