"""Requests and answers as bytes."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.modbus.codec import (
    Failed,
    NotModbus,
    answer_data,
    data_bytes,
    frame,
    read_header,
    request_pdu,
)
from protocols.modbus.options import Table
from shared.quality import Reason, reason_of


@pytest.mark.parametrize(
    ("table", "pdu"),
    [
        ("coil", "01 0013 0025"),
        ("discrete", "02 0013 0025"),
        ("holding", "03 0013 0025"),
        ("input", "04 0013 0025"),
    ],
)
def test_a_request_is_what_the_specification_says(table: Table, pdu: str) -> None:
    assert request_pdu(table, 0x13, 0x25) == bytes.fromhex(pdu)


def test_a_frame_carries_transaction_unit_and_length() -> None:
    assert frame(0x1234, 0x11, b"\x03\x00\x6b\x00\x03") == bytes.fromhex(
        "1234 0000 0006 11 03006b0003"
    )


@pytest.mark.parametrize(
    ("header", "problem"),
    [
        ("0001 0001 0005 01", "protocol id 1"),
        ("0001 0000 0000 01", "length 0"),
        ("0001 0000 0002 01", "length 2"),
        ("0001 0000 00ff 01", "length 255"),
        ("4854 5450 2f31 2e", "protocol id"),
    ],
)
def test_a_header_that_no_answer_has_is_not_modbus(header: str, problem: str) -> None:
    with pytest.raises(NotModbus, match=problem):
        read_header(bytes.fromhex(header))


def test_a_header_gives_transaction_and_size_of_the_frame() -> None:
    assert read_header(bytes.fromhex("00 abcd 0000 00fe 01"), 1) == (0xABCD, 260)


@pytest.mark.parametrize(
    ("pdu", "table", "count", "reason"),
    [
        ("83 01", "holding", 2, Reason.DEVICE_EXCEPTION),
        ("83 02", "holding", 2, Reason.WRONG_ADDRESS),
        ("84 06", "input", 2, Reason.DEVICE_EXCEPTION),
        ("84 0a", "input", 2, Reason.LINK_DOWN),
        ("84 0b", "input", 2, Reason.TIMEOUT),
        ("84 02", "holding", 2, Reason.BAD_PAYLOAD),
        ("83 02 00", "holding", 2, Reason.BAD_PAYLOAD),
        ("04 04 00000000", "holding", 2, Reason.BAD_PAYLOAD),
        ("03 02 0000", "holding", 2, Reason.SHORT_ANSWER),
        ("03 00", "holding", 2, Reason.SHORT_ANSWER),
        ("03 04 0000", "holding", 2, Reason.SHORT_ANSWER),
        ("03 02 00000000", "holding", 2, Reason.SHORT_ANSWER),
        ("03 06 000000000000", "holding", 2, Reason.BAD_PAYLOAD),
        ("03 04 000000000000", "holding", 2, Reason.BAD_PAYLOAD),
        ("01 01 ff", "coil", 9, Reason.SHORT_ANSWER),
        ("01 03 ffffff", "coil", 9, Reason.BAD_PAYLOAD),
    ],
)
def test_an_answer_without_values_says_why(
    pdu: str, table: Table, count: int, reason: Reason
) -> None:
    with pytest.raises(Failed) as failed:
        answer_data(bytes.fromhex(pdu), table, count)
    assert reason_of(failed.value.quality) is reason


@given(
    table=st.sampled_from(["coil", "discrete", "holding", "input"]),
    count=st.integers(1, 125),
    pdu=st.binary(min_size=2, max_size=253),
)
def test_no_bytes_give_values_of_another_length(table: Table, count: int, pdu: bytes) -> None:
    try:
        data = answer_data(pdu, table, count)
    except Failed:
        return
    assert len(data) == data_bytes(table, count)


@given(count=st.integers(1, 125), seed=st.binary(min_size=250, max_size=250))
def test_a_right_answer_gives_its_bytes(count: int, seed: bytes) -> None:
    data = seed[: 2 * count]
    assert answer_data(struct.pack(">BB", 3, len(data)) + data, "holding", count) == data
