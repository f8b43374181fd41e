import random

from hypothesis import given
from hypothesis import strategies as st

from shared.backoff import Backoff


@given(st.integers(0, 2**32), st.integers(1, 60))
def test_a_delay_lies_between_the_floor_and_what_the_failures_allow(seed: int, tries: int) -> None:
    backoff = Backoff(base_s=0.5, cap_s=30.0, floor_s=0.1, rng=random.Random(seed))
    for failures in range(tries):
        assert 0.1 <= backoff.next_s() <= min(30.0, 0.5 * 2**failures)


def test_delays_use_the_whole_range() -> None:
    backoff = Backoff(rng=random.Random(1), failures=20)
    delays = [backoff.next_s() for _ in range(1_000)]
    assert min(delays) < 1.0
    assert max(delays) > 29.0


def test_success_starts_over() -> None:
    backoff = Backoff(rng=random.Random(1), failures=20)
    backoff.reset()
    assert backoff.next_s() <= 0.5


def test_a_year_of_failures_does_not_overflow() -> None:
    backoff = Backoff(rng=random.Random(1), failures=1_000_000)
    assert backoff.next_s() <= 30.0


def test_two_gateways_do_not_wait_alike() -> None:
    assert Backoff(failures=9).rng.random() != Backoff(failures=9).rng.random()
