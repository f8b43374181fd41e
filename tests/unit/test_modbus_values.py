"""From the bytes of a device to values and qualities."""

import math
import struct
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from protocols.modbus import ModbusPointOptions
from protocols.modbus.options import BITS, Order, ValueType
from protocols.modbus.values import Placed, byte_places, decoder
from shared.quality import GOOD, Reason, bad

STRUCT: dict[ValueType, str] = {
    "uint16": "H",
    "int16": "h",
    "uint32": "I",
    "int32": "i",
    "uint64": "Q",
    "int64": "q",
    "float32": "f",
    "float64": "d",
}
NUMBERS = list(STRUCT)
ORDERS: list[Order] = list(get_args(Order))
NOT_IMPLEMENTED = bad(Reason.NOT_IMPLEMENTED)
NOT_A_NUMBER = bad(Reason.NOT_A_NUMBER)


def reorder(data: bytes, order: Order) -> bytes:
    """Lay big-endian bytes out in another order, word by word: slow, plain, on its own."""
    words = [data[at : at + 2] for at in range(0, len(data), 2)]
    if order in {"cdab", "dcba"}:
        words.reverse()
    if order in {"badc", "dcba"}:
        words = [word[::-1] for word in words]
    return b"".join(words)


def decode_one(
    data: bytes, order: Order = "abcd", quality: int = GOOD, **options: Any
) -> tuple[float, int]:
    point = ModbusPointOptions.model_validate({"register": 0, **options})
    qualities = np.array([quality], np.uint16)
    value = decoder([Placed(0, 0, point, order)]).decode(np.frombuffer(data, np.uint8), qualities)
    return float(value[0]), int(qualities[0])


@pytest.mark.parametrize(
    ("order", "places"),
    [
        ("abcd", [0, 1, 2, 3]),
        ("cdab", [2, 3, 0, 1]),
        ("badc", [1, 0, 3, 2]),
        ("dcba", [3, 2, 1, 0]),
    ],
)
def test_the_four_orders_are_what_their_names_say(order: Order, places: list[int]) -> None:
    assert byte_places("uint32", order) == places


@pytest.mark.parametrize(
    ("kind", "order", "data", "value"),
    [
        ("float32", "abcd", "42f6 e979", 123.45600128173828),
        ("float32", "cdab", "e979 42f6", 123.45600128173828),
        ("int32", "cdab", "fffe ffff", -2),
        ("uint32", "badc", "0100 0200", 65_538),
        ("int16", "abcd", "ff9c", -100),
        ("uint16", "dcba", "3412", 0x1234),
        ("uint64", "abcd", "0000 0000 0001 0000", 65_536),
        ("int64", "dcba", "feff ffff ffff ffff", -2),
        ("float64", "abcd", "405e dd2f 1a9f be77", 123.456),
    ],
)
def test_known_registers_give_known_values(
    kind: ValueType, order: Order, data: str, value: float
) -> None:
    assert decode_one(bytes.fromhex(data), order, type=kind) == (value, GOOD)


@given(kind=st.sampled_from(NUMBERS), order=st.sampled_from(ORDERS), data=st.binary(min_size=8))
@example(kind="float32", order="abcd", data=bytes.fromhex("7f800001") * 2)  # a signalling NaN
@example(kind="float32", order="abcd", data=bytes.fromhex("00000001") * 2)  # a subnormal
@example(kind="float64", order="abcd", data=bytes.fromhex("8000000000000000"))
def test_every_type_and_order_agrees_with_struct(
    kind: ValueType, order: Order, data: bytes
) -> None:
    data = data[: BITS[kind] // 8]
    wanted = float(struct.unpack(f">{STRUCT[kind]}", data)[0])
    value, quality = decode_one(reorder(data, order), order, type=kind)
    if math.isfinite(wanted):
        assert (struct.pack("d", value), quality) == (struct.pack("d", wanted), GOOD)
    else:
        assert math.isnan(value)
        assert quality == NOT_A_NUMBER


@given(
    st.lists(
        st.tuples(st.sampled_from(NUMBERS), st.sampled_from(ORDERS), st.binary(min_size=8)),
        min_size=1,
        max_size=40,
    )
)
def test_points_of_mixed_kinds_do_not_touch_each_other(
    points: list[tuple[ValueType, Order, bytes]],
) -> None:
    image, placed, wanted = b"", [], []
    for row, (kind, order, seed) in enumerate(points):
        data = seed[: BITS[kind] // 8]
        wanted.append(decode_one(data, order, type=kind))
        options = ModbusPointOptions(register=row, type=kind)
        placed.append(Placed(row, len(image), options, order))
        image += data
    qualities = np.zeros(len(points), np.uint16)
    value = decoder(placed[::-1]).decode(np.frombuffer(image, np.uint8), qualities)
    np.testing.assert_array_equal(value, [pair[0] for pair in wanted])
    assert qualities.tolist() == [pair[1] for pair in wanted]


@pytest.mark.parametrize("bit", range(16))
def test_a_bit_of_a_register_is_counted_from_the_lowest(bit: int) -> None:
    lone = struct.pack(">H", 1 << bit)
    assert decode_one(lone, type="bool", bit=bit) == (1.0, GOOD)
    assert decode_one(bytes(255 - byte for byte in lone), type="bool", bit=bit) == (0.0, GOOD)
    assert decode_one(lone[::-1], "badc", type="bool", bit=bit) == (1.0, GOOD)


@pytest.mark.parametrize(
    ("kind", "data", "sentinels"),
    [
        ("uint16", "ffff", [0xFFFF]),
        ("int16", "8000", [0x8000]),
        ("int16", "8000", [-32_768]),
        ("int32", "80000000", [0x80000000]),
        ("uint32", "ffffffff", [0, 0xFFFFFFFF]),
        ("uint64", "ffffffffffffffff", [0xFFFFFFFFFFFFFFFF]),
        ("int64", "8000000000000000", [0x8000000000000000]),
        ("float32", "c61c3c00", [-9999.0]),
        ("float32", "7f7fffff", [3.4028234663852886e38]),
    ],
)
def test_a_sentinel_is_not_implemented(kind: ValueType, data: str, sentinels: list[float]) -> None:
    value, quality = decode_one(
        bytes.fromhex(data), type=kind, sentinels=sentinels, scale=0.5, offset=1
    )
    assert math.isnan(value)
    assert quality == NOT_IMPLEMENTED


@pytest.mark.parametrize(
    ("kind", "data"), [("uint64", "fffffffffffffffe"), ("int16", "8001"), ("int16", "7fff")]
)
def test_a_neighbour_of_a_sentinel_is_a_value(kind: ValueType, data: str) -> None:
    sentinels = [0xFFFFFFFFFFFFFFFF] if kind == "uint64" else [0x8000]
    assert decode_one(bytes.fromhex(data), type=kind, sentinels=sentinels)[1] == GOOD


@pytest.mark.parametrize("data", ["7fc00000", "7f800000", "ff800000"])
def test_nan_and_infinity_are_not_a_number(data: str) -> None:
    value, quality = decode_one(bytes.fromhex(data), type="float32")
    assert math.isnan(value)
    assert quality == NOT_A_NUMBER


def test_what_scaling_overflows_is_not_a_number() -> None:
    data = struct.pack(">d", 1e300)
    assert decode_one(data, type="float64", scale=1e300)[1] == NOT_A_NUMBER


@given(raw=st.integers(-32_768, 32_767), digits=st.integers(1, 6))
def test_decimal_scales_give_the_decimal_the_device_means(raw: int, digits: int) -> None:
    value, _ = decode_one(struct.pack(">h", raw), type="int16", scale=float(f"1e-{digits}"))
    assert value == float(f"{raw}e-{digits}")


@pytest.mark.parametrize(
    ("scale", "offset", "value"), [(0.15, 0, 0.45), (10, 0, 30), (1, -40, -37), (-0.5, 1, -0.5)]
)
def test_scale_and_offset_apply_in_that_order(scale: float, offset: float, value: float) -> None:
    assert decode_one(b"\x00\x03", scale=scale, offset=offset) == (value, GOOD)


def test_a_row_that_failed_stays_failed_whatever_its_bytes_hold() -> None:
    lost = bad(Reason.DEVICE_EXCEPTION)
    for data in ("00000000", "7fc00000", "c61c3c00"):
        value, quality = decode_one(
            bytes.fromhex(data), quality=lost, type="float32", sentinels=[-9999.0]
        )
        assert math.isnan(value)
        assert quality == lost
