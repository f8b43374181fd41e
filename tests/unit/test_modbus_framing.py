"""Frames on a TCP connection: with a header, and as on a serial line."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from protocols.modbus.codec import NotModbus
from protocols.modbus.framing import FOREIGN, Framing, RtuFraming, TcpFraming, crc

READ = bytes.fromhex("03000000 0a")
ANSWERS = [
    "0304 0001 0002",
    "83 02",
    "06 0001 0003",
    "10 0001 0002",
    "16 0004 fffb 0004",
    "2b0e01010000020001410202 4243",
]


def rtu(unit: int, pdu: bytes) -> bytes:
    body = bytes((unit,)) + pdu
    return body + crc(body).to_bytes(2, "little")


def test_a_serial_frame_is_what_the_specification_says() -> None:
    assert RtuFraming().wrap(1, 1, READ) == bytes.fromhex("01 03 0000 000a c5cd")


@pytest.mark.parametrize("answer", ANSWERS)
def test_an_answer_is_cut_out_when_its_last_byte_is_there(answer: str) -> None:
    pdu = bytes.fromhex(answer)
    framing = RtuFraming()
    framing.wrap(7, 3, bytes((pdu[0] & 0x7F,)))
    data = bytearray(b"\xaa" + rtu(3, pdu) + b"\x55")
    whole = len(data) - 1
    for end in range(1, whole):
        assert framing.cut(data, 1, end) is None
    assert framing.cut(data, 1, whole) == (7, pdu, whole - 1)
    assert framing.cut(data, 1, whole + 1) == (7, pdu, whole - 1)


@pytest.mark.parametrize(("unit", "pdu"), [(4, "0302 0001"), (3, "0402 0001"), (3, "84 02")])
def test_an_answer_of_another_unit_or_function_is_foreign(unit: int, pdu: str) -> None:
    framing = RtuFraming()
    data = bytearray(rtu(unit, bytes.fromhex(pdu)))
    assert framing.cut(data, 0, len(data)) == (FOREIGN, bytes.fromhex(pdu), len(data))
    framing.wrap(7, 3, READ)
    assert framing.cut(data, 0, len(data)) == (FOREIGN, bytes.fromhex(pdu), len(data))


def test_a_wrong_checksum_is_not_modbus() -> None:
    data = bytearray(rtu(3, bytes.fromhex("0302 0001")))
    data[3] ^= 1
    with pytest.raises(NotModbus, match="checksum"):
        RtuFraming().cut(data, 0, len(data))


@pytest.mark.parametrize("framing", [TcpFraming(), RtuFraming()])
@given(data=st.binary(max_size=300))
@example(data=b"\x01\x2b\x0e\x01\x01\x00\x00\xff" + b"\x00\xff" * 140)
def test_no_bytes_give_more_than_there_are(framing: Framing, data: bytes) -> None:
    try:
        cut = framing.cut(bytearray(data), 0, len(data))
    except NotModbus:
        return
    if cut is not None:
        assert 2 <= len(cut[1]) < cut[2] <= len(data)
