"""Registers of the simulated Modbus devices: what goes in is what a right client reads."""

import math
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymodbus.client.mixin import ModbusClientMixin

from protocols.modbus.options import ModbusPointOptions
from protocols.simulated.layouts import LAYOUTS, UNITS
from protocols.simulated.registers import Layout, Register

TYPES = {
    "uint16": ModbusClientMixin.DATATYPE.UINT16,
    "int16": ModbusClientMixin.DATATYPE.INT16,
    "uint32": ModbusClientMixin.DATATYPE.UINT32,
    "int32": ModbusClientMixin.DATATYPE.INT32,
    "int64": ModbusClientMixin.DATATYPE.INT64,
    "float32": ModbusClientMixin.DATATYPE.FLOAT32,
    "float64": ModbusClientMixin.DATATYPE.FLOAT64,
}


def read(register: Register, words: list[int]) -> float | None:
    """Decode with pymodbus and decimal arithmetic, which this project did not write."""
    raw = ModbusClientMixin.convert_from_registers(
        words, TYPES[register.type], "little" if register.low_word_first else "big"
    )
    assert isinstance(raw, int | float)
    if raw == register.missing or math.isnan(raw):
        return None
    return float(Decimal(raw) / Decimal(10) ** register.decimals)


registers = st.sampled_from([each for layout in LAYOUTS.values() for each in layout.registers])


@given(registers, st.floats(-1e12, 1e12), st.booleans())
def test_words_mean_what_is_said_of_them(register: Register, value: float, lost: bool) -> None:
    words, meaning = register.encode(value, lost=lost)
    assert read(register, list(words)) == meaning


@given(registers, st.floats(0, 3_000))
def test_a_value_within_reach_is_kept_to_its_resolution(register: Register, value: float) -> None:
    _, meaning = register.encode(value, lost=False)
    assert meaning is not None
    resolution = 2e-4 if register.is_float else 10.0**-register.decimals
    highest = 0.9 * 2 ** (16 * register.words - 1) * 10.0**-register.decimals
    if register.is_float or value < highest:
        assert meaning == pytest.approx(value, abs=resolution)


def test_a_value_beyond_the_limits_is_clamped_and_never_reads_as_missing() -> None:
    register = Register("power", "int16", missing=-0x8000)
    assert register.encode(-1e9, lost=False)[1] == -0x7FFF
    assert register.encode(1e9, lost=False)[1] == 0x7FFF
    assert Register("current", "uint16", missing=0xFFFF).encode(1e9, lost=False)[1] == 0xFFFE


def test_a_counter_that_wraps_begins_again() -> None:
    energy = Register("energy", "uint32", decimals=3, wraps=True)
    assert energy.encode(2**32 / 1_000 + 0.005, lost=False)[1] == 0.005


def test_low_word_first_swaps_words_and_not_bytes() -> None:
    assert Register("n", "uint32", low_word_first=True).encode(0x0001_0203, lost=False)[0] == (
        0x0203,
        0x0001,
    )


def test_a_lost_value_without_a_way_to_say_so_keeps_its_value() -> None:
    assert Register("voltage", "uint16").encode(230.0, lost=True)[1] == 230.0
    assert Register("voltage", "float32").encode(230.0, lost=True)[1] is None


def test_nan_in_a_register_that_cannot_say_so_is_an_error() -> None:
    with pytest.raises(ValueError, match="voltage has no raw value"):
        Register("voltage", "uint16").encode(math.nan, lost=False)


@pytest.mark.parametrize(("name", "layout"), LAYOUTS.items())
def test_every_block_is_contiguous_and_fits_one_request(name: str, layout: Layout) -> None:
    assert name in UNITS
    addresses = layout.addresses()
    ends = [addresses[each.name] + each.words for each in layout.registers]
    assert list(addresses.values())[1:] == ends[:-1]
    assert layout.words <= 125


@pytest.mark.parametrize("name", LAYOUTS)
def test_only_a_request_that_holds_the_whole_counter_is_a_sample(name: str) -> None:
    layout = LAYOUTS[name]
    begin = layout.addresses()["counter"]
    assert layout.holds("counter", layout.first, layout.words)
    assert layout.holds("counter", begin, 2)
    assert not layout.holds("counter", begin, 1)
    assert not layout.holds("counter", begin + 1, 1)


def test_the_maps_cover_what_real_devices_do() -> None:
    every = [each for layout in LAYOUTS.values() for each in layout.registers]
    assert {each.type for each in every} >= {"int16", "uint32", "int64", "float32", "float64"}
    assert any(each.low_word_first for each in every)
    assert any(each.missing is not None for each in every)
    assert {layout.table for layout in LAYOUTS.values()} == {"input", "holding"}


@pytest.mark.parametrize("name", LAYOUTS)
def test_the_driver_accepts_every_point_as_it_is_described(name: str) -> None:
    for source in LAYOUTS[name].sources().values():
        ModbusPointOptions.model_validate(source)
