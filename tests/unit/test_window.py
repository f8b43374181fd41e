"""The window against a naive model of what is on its way."""

import random
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from edge.sealed import Sealed
from edge.window import BACKLOG_AHEAD, RESEND_S, UNSETTLED, Window
from shared.link import WINDOW_BATCHES, Accepted, Settled
from shared.model import Kind

BASES = {1: 100, 2: 200}


def batch(epoch: int, seq: int, size: int = 10) -> Sealed:
    return Sealed(BASES[epoch] + seq, epoch, seq, Kind.READINGS, 1, 0, 0, b"", bytes(size))


def window(limit_bytes: int = 100, live_from: int = 200) -> Window:
    return Window(limit_bytes, live_from, random.Random(1))


def settled(epoch: int, *seqs: tuple[int, int]) -> Settled:
    return Settled(epoch=epoch, seqs=seqs, delivered=0, collapsed=0, quarantined=0)


@dataclass
class Model:
    """What was sent, by name: its size, and whether it counts in the window."""

    sent: dict[tuple[int, int], tuple[int, bool]] = field(default_factory=dict)
    sizes: dict[tuple[int, int], int] = field(default_factory=dict)

    def waiting(self) -> int:
        return sum(size for size, is_waiting in self.sent.values() if is_waiting)

    def step(self, here: Window, what: str, name: tuple[int, int], number: int, now: int) -> None:
        epoch, seq = name
        touched = {(epoch, one) for one in range(seq, seq + number + 1)} & self.sent.keys()
        match what:
            case "send":
                size = self.sizes.setdefault(name, number)
                here.note_sent(batch(epoch, seq, size), float(now))
                self.sent[name] = (size, True)
            case "accept":
                here.note_accepted([Accepted(epoch=epoch, seqs=((seq, seq + number),))])
                self.sent |= {one: (self.sent[one][0], False) for one in touched}
            case "settle":
                here.note_settled([settled(epoch, (seq, seq + number))])
                self.sent = {one: kept for one, kept in self.sent.items() if one not in touched}
            case "put off":
                here.put_off(epoch, seq, now + 5.0)
                self.sent |= {one: (self.sent[one][0], False) for one in touched & {name}}


names = st.tuples(st.sampled_from([1, 2]), st.integers(0, 5))
steps = st.lists(
    st.one_of(
        st.tuples(st.just("send"), names, st.integers(1, 40)),
        st.tuples(st.just("accept"), names, st.integers(0, 3)),
        st.tuples(st.just("settle"), names, st.integers(0, 3)),
        st.tuples(st.just("put off"), names, st.integers(0, 3)),
    ),
    max_size=40,
)


@given(steps)
@settings(max_examples=200)
def test_the_bytes_on_their_way_are_those_sent_and_not_accepted(
    several: list[tuple[str, tuple[int, int], int]],
) -> None:
    here, model = window(), Model()
    for now, (what, name, number) in enumerate(several):
        model.step(here, what, name, number, now)
        assert here.waiting_bytes == model.waiting()
        assert here.has_room() == (model.waiting() < 100)
        assert set(here.sent) == set(model.sent)


def test_a_batch_that_is_not_settled_is_due_again_once() -> None:
    here = window()
    here.note_sent(batch(1, 0), now_s=0.0)
    here.note_accepted([Accepted(epoch=1, seqs=((0, 0),))])
    assert here.due_again(RESEND_S - 0.1) is None
    assert here.due_again(2 * RESEND_S) == batch(1, 0).id
    assert here.due_again(2 * RESEND_S) is None
    here.note_sent(batch(1, 0), now_s=60.0)
    assert here.due_again(60.0 + 2 * RESEND_S) == batch(1, 0).id


def test_a_settled_batch_is_never_due_again() -> None:
    here = window()
    here.note_sent(batch(1, 0), now_s=0.0)
    here.note_sent(batch(1, 1), now_s=0.0)
    here.note_settled([settled(1, (0, 0))])
    assert here.due_again(1e9) == batch(1, 1).id
    assert here.due_again(1e9) is None


def test_a_batch_that_was_put_off_is_due_when_central_said() -> None:
    here = window()
    here.note_sent(batch(1, 3), now_s=0.0)
    here.put_off(1, 3, until_s=7.0)
    assert here.waiting_bytes == 0
    assert here.due_again(6.9) is None
    assert here.due_again(7.0) == batch(1, 3).id
    here.put_off(9, 9, until_s=1.0)


def test_live_and_backlog_are_followed_apart() -> None:
    here = window(live_from=200)
    assert (here.live_sent, here.backlog_sent) == (199, 0)
    here.note_sent(batch(2, 4), now_s=0.0)
    here.note_sent(batch(1, 2), now_s=0.0)
    here.note_sent(batch(2, 1), now_s=0.0)
    assert (here.live_sent, here.backlog_sent) == (204, 102)


def test_one_batch_may_always_be_sent_however_large_it_is() -> None:
    here = window(limit_bytes=100)
    here.note_sent(batch(1, 0, size=99), now_s=0.0)
    assert here.has_room()
    here.note_sent(batch(1, 1, size=5_000), now_s=0.0)
    assert not here.has_room()


def test_so_many_unsettled_batches_and_no_more_are_followed() -> None:
    here = window(limit_bytes=10**9)
    for seq in range(UNSETTLED):
        assert here.may_follow_more()
        here.note_sent(batch(1, seq), now_s=0.0)
        here.note_accepted([Accepted(epoch=1, seqs=((seq, seq),))])
    assert not here.may_follow_more()
    # What was lost with the log is sent again all the same.
    assert here.has_room()
    assert here.due_again(3 * RESEND_S) is not None


def test_no_more_batches_go_ahead_than_central_takes_in_hand() -> None:
    here = window(limit_bytes=10**9)
    for seq in range(WINDOW_BATCHES):
        assert here.has_room()
        here.note_sent(batch(1, seq), now_s=0.0)
    assert not here.has_room()
    here.note_accepted([Accepted(epoch=1, seqs=((0, 0),))])
    assert here.has_room()


def test_backlog_is_sent_only_a_little_ahead_of_what_is_settled_and_live_goes_on() -> None:
    here = window()
    for seq in range(BACKLOG_AHEAD):
        assert here.may_follow_backlog()
        here.note_sent(batch(1, seq), 0.0)
    assert not here.may_follow_backlog()
    assert here.may_follow_more()
    here.note_settled([settled(1, (0, 0))])
    assert here.may_follow_backlog()
