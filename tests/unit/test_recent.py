"""What was just committed is known without reading it back, and only while nothing is missing."""

from edge.recent import MOST_BATCHES, MOST_BYTES, Recent
from edge.sealed import Sealed
from shared.model import Kind


def sealed(id_: int, size: int = 10) -> Sealed:
    return Sealed(id_, 1, id_, Kind.READINGS, 1, 0, 0, b"", bytes(size))


def ids(found: list[Sealed] | None) -> list[int] | None:
    return None if found is None else [one.id for one in found]


def test_batches_between_two_ids_are_listed_in_order() -> None:
    recent = Recent()
    recent.add([sealed(5), sealed(6)])
    recent.add([sealed(7)])
    assert ids(recent.between(4, 8)) == [5, 6, 7]
    assert ids(recent.between(5, 7)) == [6]
    assert ids(recent.between(7, 100)) == []


def test_what_lies_before_the_first_it_knows_is_left_to_the_file() -> None:
    recent = Recent()
    assert recent.between(0, 10) is None
    recent.add([sealed(5)])
    assert recent.between(3, 10) is None


def test_it_forgets_the_oldest_when_there_are_too_many() -> None:
    recent = Recent()
    recent.add([sealed(nth) for nth in range(MOST_BATCHES + 1)])
    assert recent.between(-1, 2) is None
    assert ids(recent.between(0, 3)) == [1, 2]


def test_it_forgets_the_oldest_when_they_are_too_large() -> None:
    recent = Recent()
    recent.add([sealed(1, MOST_BYTES), sealed(2, 1)])
    assert recent.between(0, 3) is None
    assert ids(recent.between(1, 3)) == [2]


def test_a_batch_that_alone_is_too_large_is_not_kept() -> None:
    recent = Recent()
    recent.add([sealed(1, MOST_BYTES + 1)])
    assert recent.between(0, 2) is None


def test_batches_that_do_not_follow_what_it_knows_begin_anew() -> None:
    recent = Recent()
    recent.add([sealed(1), sealed(2)])
    recent.add([sealed(9)])
    assert recent.between(0, 10) is None
    assert ids(recent.between(8, 10)) == [9]
