"""Texts in registers, and values whose power of ten the device tells."""

import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from protocols.driver import PointSource
from protocols.modbus import ModbusDeviceOptions, ModbusPointOptions
from protocols.modbus.options import Order
from protocols.modbus.plan import Plan
from protocols.modbus.writing import write_pdu
from shared.errors import OptionsWrong
from shared.model import Point
from shared.quality import Reason, bad

DEVICE = ModbusDeviceOptions(host="device")


def plan_of(*points: dict[str, Any]) -> Plan:
    sources = [
        PointSource(Point(f"p{nth}"), ModbusPointOptions.model_validate(point))
        for nth, point in enumerate(points)
    ]
    return Plan(sources, DEVICE)


def read(plan: Plan, data: bytes) -> tuple[list[float], list[int], dict[int, str]]:
    quality = plan.quality()
    image = np.frombuffer(data, np.uint8)
    value = plan.decoder.decode(image, quality)
    texts = plan.decoder.read_texts(image, value, quality)
    return value.tolist(), quality.tolist(), texts


@pytest.mark.parametrize(
    ("data", "order", "text"),
    [
        (b"Acme\0\0\0\0", "abcd", "Acme"),
        (b"Acme    ", "abcd", "Acme"),
        (b"cAem\0\0\0\0", "badc", "Acme"),
        (b"cAem\0\0\0\0", "dcba", "Acme"),
        (b"Acme\0\0\0\0", "cdab", "Acme"),
        (b"\xc2\xb0C\0\0\0\0\0", "abcd", "°C"),
        (b"\xb0C\0\0\0\0\0\0", "abcd", "°C"),
        (b"A\0rest..", "abcd", "A"),
        (b"ABCDEFGH", "abcd", "ABCDEFGH"),
        (b"        ", "abcd", ""),
    ],
)
def test_a_text_is_what_the_device_shows(data: bytes, order: Order, text: str) -> None:
    plan = plan_of({"register": 0, "type": "string", "length": 4, "order": order})
    value, quality, texts = read(plan, data)
    assert (np.isnan(value[0]), quality, texts) == (True, [0], {0: text})


def test_a_text_of_nothing_but_zeros_is_not_implemented() -> None:
    plan = plan_of({"register": 0, "type": "string", "length": 2})
    assert read(plan, bytes(4))[1:] == ([bad(Reason.NOT_IMPLEMENTED)], {})


def test_texts_and_numbers_share_a_request() -> None:
    plan = plan_of({"register": 0, "type": "string", "length": 2}, {"register": 2}, {"register": 3})
    assert len(plan.blocks) == 1
    value, quality, texts = read(plan, b"ab\0\0" + struct.pack(">HH", 7, 9))
    assert (value[1:], quality, texts) == ([7.0, 9.0], [0, 0, 0], {0: "ab"})


@pytest.mark.parametrize(
    ("raw", "power", "value"),
    [(3, -1, 0.3), (1235, -2, 12.35), (12, 3, 12_000.0), (5, 0, 5.0), (-7, -3, -0.007)],
)
def test_the_power_of_ten_of_the_device_gives_the_decimal_it_means(
    raw: int, power: int, value: float
) -> None:
    plan = plan_of({"register": 0, "type": "int16", "scale_register": 1})
    assert len(plan.blocks) == 1
    assert read(plan, struct.pack(">hh", raw, power))[0] == [value]


@pytest.mark.parametrize(
    ("power", "reason"),
    [(-0x8000, Reason.NOT_IMPLEMENTED), (11, Reason.OUT_OF_RANGE), (-11, Reason.OUT_OF_RANGE)],
)
def test_a_power_of_ten_that_cannot_be_is_never_a_number(power: int, reason: Reason) -> None:
    plan = plan_of({"register": 0, "type": "int16", "scale_register": 1})
    value, quality, _ = read(plan, struct.pack(">hh", 5, power))
    assert np.isnan(value[0])
    assert quality == [bad(reason)]


@given(st.integers(-(2**15) + 1, 2**15 - 1), st.integers(-10, 10), st.integers(-10, 10))
def test_values_that_share_or_do_not_share_a_power(raw: int, first: int, second: int) -> None:
    plan = plan_of(
        {"register": 0, "type": "int16", "scale_register": 2},
        {"register": 1, "type": "int16", "scale_register": 3, "scale": 2},
        {"register": 0, "type": "int16", "scale_register": 3},
    )
    value, quality, _ = read(plan, struct.pack(">4h", raw, raw, first, second))
    assert quality == [0, 0, 0]
    wanted = [raw * 10.0**first, 2 * raw * 10.0**second, raw * 10.0**second]
    assert value == pytest.approx(wanted, rel=1e-12)


def test_a_power_that_the_device_does_not_know_makes_its_values_bad() -> None:
    plan = plan_of({"register": 0, "scale_register": 900}, {"register": 1})
    far = next(block for block in plan.blocks if block.span.start == 900)
    plan.bury(far, 0.0)
    assert plan.quality().tolist() == [bad(Reason.WRONG_ADDRESS), 0]


@pytest.mark.parametrize(
    "options",
    [
        {"type": "string"},
        {"type": "uint16", "length": 2},
        {"type": "string", "length": 126},
        {"type": "string", "length": 2, "scale": 2.0},
        {"type": "string", "length": 2, "scale_register": 2},
        {"type": "string", "length": 2, "sentinels": [1]},
        {"type": "string", "length": 2, "byte": "high"},
        {"type": "string", "length": 2, "table": "coil"},
        {"type": "string", "length": 8, "register": 65_530},
        {"type": "bool", "bit": 1, "scale_register": 2},
    ],
)
def test_what_does_not_fit_together_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ModbusPointOptions.model_validate({"register": 0, **options})


@pytest.mark.parametrize(
    "options", [{"type": "string", "length": 2}, {"type": "int16", "scale_register": 2}]
)
def test_no_number_is_written_to_either(options: dict[str, Any]) -> None:
    point = ModbusPointOptions.model_validate({"register": 0, **options})
    with pytest.raises(OptionsWrong, match="a number is written to a number"):
        write_pdu(point, "abcd", 1.0)
