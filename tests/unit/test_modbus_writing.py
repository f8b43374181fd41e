"""What is written reads back as the same value, whatever type, order, scale and neighbours."""

import struct
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.modbus import ModbusPointOptions, identity
from protocols.modbus.options import BITS, Order, ValueType
from protocols.modbus.texts import read_texts, text_place
from protocols.modbus.writing import check_written, write_pdu, write_text_pdu
from shared.errors import LinkLost, OptionsWrong, Refused
from shared.quality import GOOD
from tests.unit.test_modbus_values import decode_one

ORDERS: list[Order] = list(get_args(Order))
RANGES: dict[ValueType, tuple[int, int]] = {
    "bool": (0, 1),
    "uint8": (0, 255),
    "int8": (-128, 127),
    "uint16": (0, 2**16 - 1),
    "int16": (-(2**15), 2**15 - 1),
    "uint32": (0, 2**32 - 1),
    "int32": (-(2**31), 2**31 - 1),
    "uint64": (0, 2**53),
    "int64": (-(2**53), 2**53),
    "bcd16": (0, 9_999),
    "bcd32": (0, 99_999_999),
}


def point(**options: Any) -> ModbusPointOptions:
    return ModbusPointOptions.model_validate({"register": 0, **options})


def device(pdu: bytes, memory: bytes) -> bytes:
    """Do what the specification says a device does with a write to register 0."""
    function, address = struct.unpack_from(">BH", pdu)
    assert address == 0
    if function == 6:
        return pdu[3:5] + memory[2:]
    if function == 16:
        count, size = struct.unpack_from(">HB", pdu, 3)
        assert len(pdu) - 6 == size == 2 * count
        return pdu[6:] + memory[size:]
    assert function == 22
    current, keep, put = (int.from_bytes(part) for part in (memory[:2], pdu[3:5], pdu[5:7]))
    return ((current & keep) | (put & ~keep & 0xFFFF)).to_bytes(2) + memory[2:]


def placed(kind: ValueType, bit: int) -> dict[str, Any]:
    if kind == "bool":
        return {"type": kind, "bit": bit}
    if BITS[kind] == 8:
        return {"type": kind, "byte": "high" if bit % 2 else "low"}
    return {"type": kind}


@given(
    data=st.data(),
    kind=st.sampled_from(list(RANGES)),
    order=st.sampled_from(ORDERS),
    memory=st.binary(min_size=8, max_size=8),
    bit=st.integers(0, 15),
)
def test_every_whole_type_and_order_reads_back_as_written(
    data: st.DataObject, kind: ValueType, order: Order, memory: bytes, bit: int
) -> None:
    value = data.draw(st.integers(*RANGES[kind]))
    options = placed(kind, bit)
    after = device(write_pdu(point(**options), order, float(value)), memory)
    assert len(after) == len(memory)
    width = max(2, BITS[kind] // 8)
    assert decode_one(after[:width], order, **options) == (value, GOOD)
    assert after[width:] == memory[width:]


@given(
    value=st.floats(allow_nan=False, allow_infinity=False, width=32),
    order=st.sampled_from(ORDERS),
    kind=st.sampled_from(["float32", "float64"]),
)
def test_every_float_reads_back_as_written(value: float, order: Order, kind: str) -> None:
    after = device(write_pdu(point(type=kind), order, value), bytes(8))
    assert decode_one(after[: 4 if kind == "float32" else 8], order, type=kind) == (value, GOOD)


@given(
    raw=st.integers(-(2**15), 2**15 - 1),
    scale=st.sampled_from([0.1, 0.01, 0.5, 2.0, -0.1, 0.15]),
    offset=st.sampled_from([0.0, -40.0, 0.25]),
)
def test_a_scaled_value_is_written_as_the_raw_value_it_was_read_from(
    raw: int, scale: float, offset: float
) -> None:
    options: dict[str, Any] = {"type": "int16", "scale": scale, "offset": offset}
    value, _ = decode_one(struct.pack(">h", raw), **options)
    assert write_pdu(point(**options), "abcd", value)[3:] == struct.pack(">h", raw)


@given(bit=st.integers(0, 15), memory=st.integers(0, 0xFFFF), order=st.sampled_from(ORDERS))
def test_a_bit_leaves_its_neighbours_alone(bit: int, memory: int, order: Order) -> None:
    before = memory.to_bytes(2)
    after = device(write_pdu(point(type="bool", bit=bit), order, 1), before)
    changed = int.from_bytes(after) ^ memory
    assert changed.bit_count() <= 1
    assert decode_one(after, order, type="bool", bit=bit) == (1, GOOD)


def test_the_requests_are_those_of_the_specification() -> None:
    assert write_pdu(point(table="coil", register=0xAC), "abcd", 1).hex() == "0500acff00"
    assert write_pdu(point(register=1), "abcd", 3).hex() == "0600010003"
    assert write_pdu(point(register=1, type="uint32"), "abcd", 0x000A0102).hex() == (
        "1000010002" + "04" + "000a0102"
    )
    assert write_pdu(point(register=4, type="bool", bit=2), "abcd", 1).hex() == "160004fffb0004"


@pytest.mark.parametrize(
    ("options", "value", "says"),
    [
        ({"table": "input"}, 1, "cannot be written"),
        ({"table": "discrete"}, 1, "cannot be written"),
        ({"type": "uint16"}, -1, "does not fit a uint16"),
        ({"type": "int16", "scale": 0.1}, 3276.8, "does not fit a int16"),
        ({"type": "bcd16"}, 10_000, "does not fit a bcd16"),
        ({"type": "float32"}, 1e39, "does not fit a float32"),
        ({"type": "float32"}, float("nan"), "no number"),
        ({"type": "int16", "sentinels": [0x8000]}, -32_768, "not implemented"),
        ({"table": "coil"}, 2, "0 or 1"),
    ],
)
def test_what_cannot_be_written_is_refused_before_anything_is_sent(
    options: dict[str, Any], value: float, says: str
) -> None:
    with pytest.raises(OptionsWrong, match=says):
        write_pdu(point(**options), "abcd", value)


def test_answers_are_believed_only_if_they_are_those_of_the_write() -> None:
    one, several = bytes.fromhex("0600010003"), bytes.fromhex("100001000204000a0102")
    check_written(one, one)
    check_written(several, several[:5])
    with pytest.raises(Refused, match="exception 3"):
        check_written(one, b"\x86\x03")
    for unclear in (b"\x86\x05", b"\x86\x0b", b"\x06\x00\x01\x00\x04", b"\x03\x00"):
        with pytest.raises(LinkLost):
            check_written(one, unclear)


def test_a_bcd_with_a_digit_that_is_none_is_no_number() -> None:
    assert decode_one(bytes.fromhex("1234"), type="bcd16") == (1234, GOOD)
    assert decode_one(bytes.fromhex("9999 1234"), "cdab", type="bcd32") == (12349999, GOOD)
    assert decode_one(bytes.fromhex("12a4"), type="bcd16")[1] != GOOD


def test_an_identity_is_read_as_the_specification_shows_it() -> None:
    answer = bytes.fromhex("2b0e010100000" + "3000a") + b"Company id" + b"\x01\x04Code\x02\x05V2.11"
    told, following = identity.read_answer(answer)
    assert following is None
    assert identity.identity(told) == {"vendor": "Company id", "version": "V2.11", "model": "Code"}


@given(st.binary(max_size=60))
def test_no_bytes_break_the_reading_of_an_identity(tail: bytes) -> None:
    try:
        told, _ = identity.read_answer(b"\x2b\x0e" + tail)
    except identity.NotTold:
        return
    assert all(text.isprintable() for text in identity.identity(told).values())


@pytest.mark.parametrize("order", get_args(Order))
@pytest.mark.parametrize("text", ["a", "Süd 1", "12345678"])
def test_a_text_reads_back_as_written(text: str, order: Order) -> None:
    point = ModbusPointOptions(register=0, type="string", length=4)
    data = write_text_pdu(point, order, text)[6:]
    quality = np.zeros(1, np.uint16)
    image = np.frombuffer(data, np.uint8)
    assert read_texts([text_place(0, 0, 4, order)], image, quality) == {0: text}


@pytest.mark.parametrize("text", ["", "123456789", "a ", "a\0b"])
def test_a_text_that_would_read_as_another_is_refused(text: str) -> None:
    with pytest.raises(OptionsWrong, match="1 to 8 bytes"):
        write_text_pdu(ModbusPointOptions(register=0, type="string", length=4), "abcd", text)


def test_a_text_for_a_number_is_refused() -> None:
    with pytest.raises(OptionsWrong, match="as a number"):
        write_text_pdu(ModbusPointOptions(register=0), "abcd", "1")
