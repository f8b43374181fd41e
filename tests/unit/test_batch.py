"""Readings come back from a sealed body as they went in; other bytes are refused."""

import struct
import tracemalloc
import zlib
from typing import Any

import msgpack
import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from shared.batch import decode, decode_events, encode, encode_events
from shared.batch.layout import Counts, seal, unseal
from shared.clock import EARLIEST_US, LATEST_US
from shared.columns import Columns
from shared.errors import BatchInvalid

START_US = 1_700_000_000_000_000
INT64 = st.integers(-(2**63), 2**63 - 1)
VALUES = st.one_of(
    st.floats(),
    st.integers(0, 2**64 - 1).map(lambda bits: struct.unpack("<d", struct.pack("<Q", bits))[0]),
    st.floats(width=32),
    st.integers(-10_000, 10_000).map(lambda number: number / 100),
    st.integers(-10_000, 10_000).map(lambda number: number * 0.1),
    st.integers(-10_000, 10_000).map(lambda number: float(np.float32(number / 100))),
    st.sampled_from([0.0, -0.0, 1.0, np.nan, np.inf, -np.inf, 5e-324, 2.0**53, 2.0**63]),
)
TIMES = st.one_of(INT64, st.integers(0, 100).map(lambda second: START_US + second * 1_000_000))
SERIES = st.one_of(st.integers(0, 8), st.integers(-(2**31), 2**31 - 1))
TEXTS = st.one_of(st.none(), st.none(), st.text(st.characters(codec="utf-8"), max_size=8))
ROWS = st.lists(st.tuples(SERIES, TIMES, VALUES, st.integers(0, 65_535), TEXTS), max_size=60)


def columns_of(rows: list[tuple[int, int, float, int, str | None]]) -> Columns:
    texts = {at: row[4] for at, row in enumerate(rows) if row[4] is not None}
    return Columns.of(
        [row[0] for row in rows],
        [row[1] for row in rows],
        [row[2] for row in rows],
        [row[3] for row in rows],
        texts,
    )


def bits_of(columns: Columns) -> list[tuple[Any, ...]]:
    """The readings in the order `decode` promises, values as bits, every NaN alike."""
    ordered = columns.take(np.lexsort((columns.observed_at, columns.series)))
    values = np.where(np.isnan(ordered.value), np.nan, ordered.value)
    return list(
        zip(
            ordered.series.tolist(),
            ordered.observed_at.tolist(),
            values.view(np.uint64).tolist(),
            ordered.quality.tolist(),
            [ordered.texts.get(row) for row in range(len(ordered))],
            strict=True,
        )
    )


def as_is(columns: Columns) -> list[tuple[Any, ...]]:
    return list(
        zip(
            columns.series.tolist(),
            columns.observed_at.tolist(),
            columns.value.view(np.uint64).tolist(),
            columns.quality.tolist(),
            [columns.texts.get(row) for row in range(len(columns))],
            strict=True,
        )
    )


def polls(values: NDArray[np.float64], devices: int = 2) -> Columns:
    """Rows as a gateway commits them: device after device, each with a time of its own."""
    rounds, series = values.shape
    device = np.arange(series) * devices // series
    times = START_US + np.arange(rounds)[:, None] * 1_000_000 + device * 7_013
    return Columns.of(
        np.tile(np.arange(series, dtype=np.int32), rounds),
        times.reshape(-1).astype(np.int64),
        values.reshape(-1),
        np.zeros(values.size, np.uint16),
    )


def refused(body: bytes, **limits: int) -> str:
    with pytest.raises(BatchInvalid) as caught:
        decode(body, **limits)
    return caught.value.code


def resealed(payload: bytes, count: int) -> bytes:
    return seal(payload, count, 3)


@given(ROWS)
@settings(max_examples=300, deadline=None)
def test_any_readings_come_back_to_the_bit(
    rows: list[tuple[int, int, float, int, str | None]],
) -> None:
    columns = columns_of(rows)
    assert as_is(decode(encode(columns))) == bits_of(columns)


@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from(["float64", "float32", "0", "1", "2", "3", "0.1", "single", "mixed"]),
    st.integers(1, 30),
    st.integers(1, 30),
)
@settings(max_examples=200, deadline=None)
def test_walks_of_every_resolution_come_back_to_the_bit(
    seed: int, kind: str, rounds: int, series: int
) -> None:
    rng = np.random.default_rng(seed)
    columns = polls(walk(rng, kind, (rounds, series)))
    assert as_is(decode(encode(columns))) == bits_of(columns)


def walk(rng: np.random.Generator, kind: str, shape: tuple[int, int]) -> NDArray[np.float64]:
    values = np.cumsum(rng.normal(0, 0.2, shape), axis=0) + rng.normal(0, 20, shape[1])
    if kind == "mixed":
        values[:, 1::3] = np.round(values[:, 1::3], 2)
        values[:, 2::3] = np.round(values[:, 2::3], 2).astype(np.float32)
        values[rng.random(shape) < 0.1] = np.nan
        return values
    if kind.isdigit():
        return np.round(values, int(kind))
    if kind == "0.1":
        return np.rint(values * 10) * 0.1
    if kind == "single":
        return np.round(values, 2).astype(np.float32).astype(np.float64)
    return values.astype(kind).astype(np.float64)


def test_readings_of_one_series_and_time_keep_their_order() -> None:
    columns = Columns.of([1, 0, 1, 1], [5, 5, 5, 5], [3.0, 9.0, 2.0, 1.0], [0, 0, 0, 0])
    assert decode(encode(columns)).value.tolist() == [9.0, 3.0, 2.0, 1.0]


def test_a_nan_with_a_payload_comes_back_canonical() -> None:
    odd = np.array([0xFFF8_0000_0000_0001, 0x7FF0_0000_0000_0001], np.uint64).view(np.float64)
    back = decode(encode(Columns.of([0, 1], [0, 0], odd, [0, 0]))).value.view(np.uint64)
    assert back.tolist() == [0x7FF8_0000_0000_0000] * 2


def test_the_order_in_which_devices_were_read_does_not_change_the_bytes() -> None:
    columns = polls(np.round(np.random.default_rng(1).normal(20, 1, (30, 20)), 2))
    order = np.argsort(columns.series, kind="stable")
    assert encode(columns.take(order)) == encode(columns)


def test_a_lone_surrogate_becomes_a_question_mark() -> None:
    columns = Columns.of([0], [0], [np.nan], [0], {0: "a\ud800b"})
    assert decode(encode(columns)).texts == {0: "a?b"}


def test_a_text_of_a_row_that_is_not_there_is_an_error() -> None:
    with pytest.raises(ValueError, match="outside the 1 readings"):
        encode(Columns.of([0], [0], [1.0], [0], {1: "lost"}))


def test_what_decode_would_refuse_is_not_sealed() -> None:
    count = 1_000_001
    columns = Columns.of([0] * count, np.arange(count), np.zeros(count), [0] * count)
    with pytest.raises(ValueError, match="at most 1000000"):
        encode(columns)


def test_a_body_stays_small_at_a_thousand_readings() -> None:
    values = np.round(np.cumsum(np.random.default_rng(1).normal(0, 0.05, (50, 20)), 0) + 20, 2)
    assert len(encode(polls(values))) <= 1.0 * values.size


def test_series_read_together_pay_for_their_times_once() -> None:
    rng = np.random.default_rng(1)
    values = np.zeros((50, 20))
    together = polls(values)
    noise = rng.integers(0, 1_000_000, values.size)
    apart = Columns(together.series, together.observed_at + noise, together.value, together.quality)
    assert len(encode(together)) < 0.1 * len(encode(apart))


def test_a_hash_that_collides_only_costs_space(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.batch.encoder._MIX", np.uint64(0))  # every hash is now the length
    rng = np.random.default_rng(1)
    columns = Columns.of(
        np.repeat([0, 1, 2], 3), rng.integers(0, 1_000, 9), np.arange(9.0), [0] * 9
    )
    assert as_is(decode(encode(columns))) == bits_of(columns)


@pytest.fixture(scope="module")
def body() -> bytes:
    values = np.round(np.random.default_rng(1).normal(20, 1, (10, 12)), 2)
    values[3, 4:] = np.nan
    columns = polls(values)
    return encode(Columns(*columns_parts(columns), {5: "text", 7: "öl"}))


def columns_parts(columns: Columns) -> tuple[Any, Any, Any, Any]:
    return columns.series, columns.observed_at, columns.value, columns.quality


def test_every_flipped_bit_is_found(body: bytes) -> None:
    for at in range(len(body) * 8):
        flipped = bytearray(body)
        flipped[at // 8] ^= 1 << at % 8
        assert refused(bytes(flipped)) in {
            "not_a_batch",
            "unknown_version",
            "truncated",
            "checksum",
        }


def test_every_cut_is_found(body: bytes) -> None:
    codes = {size: refused(body[:size]) for size in range(len(body))}
    assert {codes[size] for size in range(4, len(body))} == {"truncated"}
    assert {codes[size] for size in range(4)} == {"not_a_batch"}


def test_bytes_after_the_body_are_refused(body: bytes) -> None:
    assert refused(body + b"\0") == "not_a_batch"


@given(st.binary(max_size=200))
@settings(max_examples=300, deadline=None)
def test_random_bytes_are_refused(noise: bytes) -> None:
    assert refused(noise) == "not_a_batch" or noise.startswith(b"SPNB")


@given(st.data())
@settings(max_examples=600, deadline=None)
def test_a_payload_of_a_liar_is_refused_or_read_and_nothing_else(data: st.DataObject) -> None:
    columns = columns_of(data.draw(ROWS))
    payload, count = unseal(encode(columns), 2**20, 2**20)
    lying = bytearray(payload)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(lying) - 1))
        lying[at : at + 1] = data.draw(st.binary(max_size=2))
        lying = lying or bytearray(1)
    try:
        back = decode(resealed(bytes(lying), count), max_readings=1_000)
    except BatchInvalid as error:
        assert error.code in {  # noqa: PT017  # either outcome is right; any other error is not
            "not_a_batch",
            "truncated",
            "count_mismatch",
            "bad_series",
        }
    else:
        assert len(back) == count
        assert as_is(decode(encode(back))) == as_is(back)


@given(st.binary(max_size=120), st.integers(0, 50))
@settings(max_examples=300, deadline=None)
def test_a_sealed_payload_of_noise_is_refused(noise: bytes, count: int) -> None:
    counts = Counts(1, 1, 1, 0, 0, 0, 1).pack()
    for payload in (noise, counts + noise):
        try:
            decode(resealed(payload, count))
        except BatchInvalid:
            continue
        assert count == 1


def test_a_newer_version_is_named() -> None:
    body = bytearray(encode(Columns.empty()))
    body[4] = 2
    assert refused(bytes(body)) == "unknown_version"


def test_another_kind_is_named() -> None:
    body = bytearray(encode(Columns.empty()))
    body[5] = 9
    struct.pack_into("<I", body, 20, zlib.crc32(body[24:], zlib.crc32(body[:20])))
    assert refused(bytes(body)) == "unknown_kind"


def test_too_many_readings_are_refused() -> None:
    body = encode(polls(np.zeros((10, 10))))
    assert refused(body, max_readings=99) == "too_large"
    assert len(decode(body, max_readings=100)) == 100


def test_a_bomb_is_refused_before_it_is_decompressed() -> None:
    bomb = resealed(bytes(1_000_000), 1)
    assert len(bomb) < 200
    assert refused(bomb, max_bytes=999_999) == "too_large"


def test_refusing_a_bomb_or_a_liar_costs_little_memory() -> None:
    many = 2**32 - 1
    bombs = [
        resealed(bytes(60_000_000), 1),
        resealed(Counts(many, many, many, many, 0, 0, 1).pack(), 1_000),
        resealed(Counts(1, 1, 1, 0, 0, 0, 1).pack() + b"\1\0" + b"\4" + b"\xff" * 4, 1_000),
    ]
    tracemalloc.start()
    try:
        for bomb in bombs:
            refused(bomb, max_bytes=1_000_000, max_readings=1_000)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1_000_000


def test_a_frame_that_declares_another_size_than_it_has_is_refused() -> None:
    frame = zstandard.ZstdCompressor(write_content_size=False).compress(bytes(100))
    header = struct.pack("<4sBBHIII", b"SPNB", 1, 1, 0, 0, 100, len(frame))
    crc = struct.pack("<I", zlib.crc32(frame, zlib.crc32(header)))
    assert refused(header + crc + frame) == "not_a_batch"


def test_a_series_outside_the_point_set_is_refused() -> None:
    body = encode(Columns.of([0, 3], [0, 0], [1.0, 1.0], [0, 0]))
    assert len(decode(body, points=4)) == 2
    for sealed, points in ((body, 3), (encode(Columns.of([-1], [0], [1.0], [0])), 4)):
        with pytest.raises(BatchInvalid) as caught:
            decode(sealed, points=points)
        assert caught.value.code == "bad_series"


GAP: dict[str, Any] = {
    "event": "gap",
    "id": bytes(16),
    "cause": "missed",
    "reason": "restart",
    "series": [[0, 3]],
    "from_us": 1,
    "to_us": 2,
    "count": 0,
    "missed": None,
    "voided": [{"epoch": 1, "seqs": [[0, 1]]}],
}


def test_events_come_back() -> None:
    events = [GAP, {"event": "of a later version", "anything": [1, {"b": b"x"}]}]
    assert decode_events(encode_events(events)) == events


@pytest.mark.parametrize(
    "change",
    [
        {"id": b"short"},
        {"cause": "other"},
        {"reason": ""},
        {"series": [[3, 0]]},
        {"series": [[0]]},
        {"series": [[0, True]]},
        {"from_us": None},
        {"to_us": 2**63},
        {"from_us": EARLIEST_US - 1},
        {"to_us": LATEST_US + 1},
        {"reason": "a\0b"},
        {"count": -1},
        {"count": 2**40 + 1},
        {"missed": 2**63 - 1},
        {"voided": [{"epoch": 1, "seqs": [[0, 2**62]]}]},
        {"missed": "many"},
        {"voided": [{"epoch": 0, "seqs": []}]},
        {"voided": [{"epoch": 1, "seqs": [[-1, 0]]}]},
        {"voided": [7]},
    ],
)
def test_a_gap_with_a_wrong_key_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(BatchInvalid, match=f"bad_event: event 0: {next(iter(change))} is wrong"):
        decode_events(encode_events([GAP | change]))


@pytest.mark.parametrize("key", [key for key in GAP if key != "event"])
def test_a_gap_without_a_key_is_refused(key: str) -> None:
    gap = {name: value for name, value in GAP.items() if name != key}
    with pytest.raises(BatchInvalid, match=f"bad_event: event 0: {key} is missing"):
        decode_events(encode_events([gap]))


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (7, "not_a_batch"),
        ([7], "bad_event"),
        ([{"no": "event"}], "bad_event"),
        ([{"event": 7}], "bad_event"),
    ],
)
def test_events_of_another_shape_are_refused(content: object, code: str) -> None:
    sealed = zstandard.compress(msgpack.packb(content))
    with pytest.raises(BatchInvalid) as caught:
        decode_events(sealed)
    assert caught.value.code == code


def test_events_over_a_mebibyte_are_neither_sealed_nor_read() -> None:
    with pytest.raises(ValueError, match="at most 1048576"):
        encode_events([{"event": "x" * 2**20}])
    with pytest.raises(BatchInvalid, match="too_large"):
        decode_events(zstandard.compress(bytes(2**20 + 1)))


@given(st.binary(max_size=100))
@settings(max_examples=200, deadline=None)
def test_random_events_are_refused_or_a_list_and_nothing_else(noise: bytes) -> None:
    for body in (noise, zstandard.compress(noise)):
        try:
            events = decode_events(body)
        except BatchInvalid:
            continue
        assert isinstance(events, list)
