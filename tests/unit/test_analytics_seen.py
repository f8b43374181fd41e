"""The memory of counted batches is bounded, and forgets what was seen longest ago."""

from central.analytics.seen import Seen


def test_a_batch_is_new_once() -> None:
    seen = Seen(10)
    assert [seen.note((1, 2, seq)) for seq in (0, 1, 0, 1, 2)] == [True, True, False, False, True]


def test_the_batch_seen_longest_ago_is_forgotten_first() -> None:
    seen = Seen(2)
    for seq in (0, 1, 0, 2):
        seen.note((1, 2, seq))
    assert not seen.note((1, 2, 0))
    assert seen.note((1, 2, 1))
