"""Frames are strict about what is listed and lenient about what is not."""

from itertools import pairwise
from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared import link
from shared.errors import FrameInvalid
from shared.model import Kind

BATCH: dict[str, Any] = {
    "type": "batch",
    "epoch": 1,
    "seq": 0,
    "kind": "readings",
    "count": 1,
    "point_set": bytes(32),
    "body": b"x",
}
RETRY: dict[str, Any] = {
    "type": "retry_after",
    "epoch": 1,
    "seq": 0,
    "seconds": 1.0,
    "reason": "busy",
}


def pack(fields: object) -> bytes:
    packed: bytes = msgpack.packb(fields, use_bin_type=True)
    return packed


def refused(data: bytes) -> str:
    with pytest.raises(FrameInvalid) as caught:
        link.unpack(data)
    return caught.value.code


def test_a_frame_comes_back() -> None:
    frame = link.unpack(pack(BATCH))
    assert isinstance(frame, link.Batch)
    assert frame.kind is Kind.READINGS
    assert link.unpack(link.pack(frame)) == frame


def test_the_type_comes_first() -> None:
    assert next(iter(msgpack.unpackb(link.pack(link.Unsupported(frame="x"))))) == "type"


def test_keys_of_a_later_version_are_ignored() -> None:
    assert link.unpack(pack(BATCH | {"later": [1]})) == link.unpack(pack(BATCH))


@pytest.mark.parametrize("key", [key for key in BATCH if key != "type"])
def test_a_missing_key_makes_a_frame_invalid(key: str) -> None:
    assert refused(pack({name: value for name, value in BATCH.items() if name != key})) == (
        "bad_field"
    )


@pytest.mark.parametrize(
    "change",
    [
        {"epoch": 0},
        {"epoch": 2**63},
        {"epoch": None},
        {"epoch": "one"},
        {"seq": -1},
        {"seq": 0.5},
        {"kind": "tags"},
        {"count": -1},
        {"count": 2**31},
        {"point_set": bytes(31)},
        {"point_set": bytes(33)},
        {"body": 7},
        {"body": None},
    ],
)
def test_a_wrong_field_makes_a_frame_invalid(change: dict[str, Any]) -> None:
    assert refused(pack(BATCH | change)) == "bad_field"


@pytest.mark.parametrize("seconds", [-0.1, 3_600.1, float("nan"), float("inf")])
def test_a_wait_is_between_nothing_and_an_hour(seconds: float) -> None:
    assert refused(pack(RETRY | {"seconds": seconds})) == "bad_field"


@pytest.mark.parametrize("content", [7, [], "batch", {}, {"type": 7}, {"type": None}, {1: 2}])
def test_what_is_no_map_with_a_type_is_invalid(content: object) -> None:
    assert refused(pack(content)) == "not_msgpack"


def test_another_type_is_named() -> None:
    with pytest.raises(FrameInvalid) as caught:
        link.unpack(pack({"type": "telepathy"}))
    assert (caught.value.code, caught.value.detail) == ("unknown_type", "telepathy")


def test_a_frame_over_the_limit_is_not_read() -> None:
    assert refused(bytes(link.MAX_FRAME_BYTES + 1)) == "too_large"


def test_bytes_after_a_frame_are_invalid() -> None:
    assert refused(pack(BATCH) + b"\xc0") == "not_msgpack"


def test_a_deep_nest_is_invalid_and_no_crash() -> None:
    assert refused(b"\x91" * 100_000) == "not_msgpack"


@given(st.binary(max_size=100))
@settings(max_examples=300)
def test_random_bytes_are_refused_and_nothing_else(noise: bytes) -> None:
    assert refused(noise) in {"not_msgpack", "unknown_type"}


@given(st.data())
@settings(max_examples=300)
def test_a_damaged_frame_is_refused_or_read_and_nothing_else(data: st.DataObject) -> None:
    damaged = bytearray(pack(BATCH))
    damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    try:
        link.unpack(bytes(damaged))
    except FrameInvalid as error:
        assert error.code in {"not_msgpack", "unknown_type", "bad_field"}  # noqa: PT017  # or read


@given(st.lists(st.integers(0, 60)))
def test_ranges_hold_exactly_the_seqs(seqs: list[int]) -> None:
    ranges = link.ranges_of(seqs)
    assert [seq for first, last in ranges for seq in range(first, last + 1)] == sorted(set(seqs))
    assert all(last + 1 < first for (_, last), (first, _) in pairwise(ranges))


def test_no_seqs_have_no_ranges() -> None:
    assert link.ranges_of([]) == ()
