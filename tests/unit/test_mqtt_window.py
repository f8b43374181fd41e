"""Which messages are new, which were committed, which wait."""

from hypothesis import given
from hypothesis import strategies as st

from protocols.mqtt.window import Repeats, Verdict, Window, digest_of, token_of


def test_a_token_names_packet_topic_and_payload() -> None:
    token = token_of(7, "a", b"1")
    assert len(token) == 6
    assert token == token_of(7, "a", b"1")
    others = {token_of(8, "a", b"1"), token_of(7, "b", b"1"), token_of(7, "a", b"2")}
    assert len(others | {token}) == 4


def test_a_first_delivery_is_new_even_if_it_looks_committed() -> None:
    window = Window()
    token = token_of(1, "a", b"1")
    window.remember([token])
    assert window.judge(1, token, is_dup=False) is Verdict.NEW
    assert len(window) == 1


def test_a_redelivery_of_what_was_committed_is_recognised() -> None:
    window = Window()
    token = token_of(1, "a", b"1")
    window.remember([token])
    assert window.judge(1, token, is_dup=True) is Verdict.COMMITTED
    assert len(window) == 0


def test_a_redelivery_of_what_waits_is_not_yielded_twice() -> None:
    window = Window()
    token = token_of(1, "a", b"1")
    window.judge(1, token, is_dup=False)
    assert window.judge(1, token, is_dup=True) is Verdict.WAITING
    assert window.commit(1, token)
    assert window.judge(1, token, is_dup=True) is Verdict.COMMITTED


def test_a_redelivery_of_something_else_under_the_same_id_is_new() -> None:
    window = Window()
    window.remember([token_of(1, "a", b"1")])
    assert window.judge(1, token_of(1, "a", b"2"), is_dup=True) is Verdict.NEW


def test_an_id_that_was_used_again_forgets_its_older_token() -> None:
    window = Window()
    old, new = token_of(1, "a", b"1"), token_of(1, "a", b"2")
    window.remember([old])
    window.judge(1, new, is_dup=False)
    window.commit(1, new)
    assert window.judge(1, old, is_dup=True) is Verdict.NEW


def test_the_latest_of_several_known_tokens_of_an_id_counts() -> None:
    window = Window()
    old, new = token_of(1, "a", b"1"), token_of(1, "a", b"2")
    window.remember([old, new, b"not one of ours"])
    assert window.judge(1, new, is_dup=True) is Verdict.COMMITTED


def test_a_commit_of_what_does_not_wait_is_told() -> None:
    window = Window()
    token = token_of(1, "a", b"1")
    assert not window.commit(1, token)
    window.judge(1, token, is_dup=False)
    assert window.commit(1, token)
    assert not window.commit(1, token)


@given(
    steps=st.lists(
        st.tuples(st.integers(1, 3), st.sampled_from([b"x", b"y"]), st.booleans(), st.booleans()),
        max_size=40,
    )
)
def test_nothing_is_dropped_that_was_not_seen_before(
    steps: list[tuple[int, bytes, bool, bool]],
) -> None:
    window = Window()
    seen: set[bytes] = set()
    for packet_id, payload, is_dup, commits in steps:
        token = token_of(packet_id, "t", payload)
        verdict = window.judge(packet_id, token, is_dup=is_dup)
        assert verdict is Verdict.NEW or (is_dup and token in seen)
        assert len(window) <= 3
        seen.add(token)
        if commits:
            window.commit(packet_id, token)


def test_a_digest_names_topic_and_payload() -> None:
    digest = digest_of("a", b"1")
    assert len(digest) == 8
    assert len({digest, digest_of("a1", b""), digest_of("a", b"2"), digest_of("b", b"1")}) == 4


def test_what_was_said_is_known_again_from_tokens_that_have_it() -> None:
    repeats, window = Repeats(10), Window()
    digest, token = digest_of("a", b"1"), token_of(1, "a", b"1")
    repeats.remember([token, token + digest, b"of another release"])
    window.remember([token + digest])
    assert digest in repeats
    assert len(repeats) == 1
    assert window.judge(1, token, is_dup=True) is Verdict.COMMITTED


def test_only_the_newest_are_known() -> None:
    repeats = Repeats(2)
    first, second, third = (digest_of("a", payload) for payload in (b"1", b"2", b"3"))
    for digest in (first, second, second, third):
        repeats.note(digest)
    assert first not in repeats
    assert second in repeats
    assert third in repeats
