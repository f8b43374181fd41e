"""The register maps of the meters and the inverter: declared, and as unlike as real makes are."""

from typing import Final

from protocols.simulated.registers import Layout, Register

UNITS: Final = {"meter1": 1, "meter2": 2, "meter3": 3, "meter4": 4, "inverter1": 126}
"""The unit id of each Modbus device."""

_INT16_MISSING: Final = -0x8000
_UINT16_MISSING: Final = 0xFFFF
_INT32_MISSING: Final = -0x8000_0000
_UINT32_MISSING: Final = 0xFFFF_FFFF

LAYOUTS: Final = {
    # float32 in input registers, high word first, like an SDM630
    "meter1": Layout(
        "input",
        0,
        (
            Register("power", "float32"),
            Register("voltage", "float32"),
            Register("current", "float32"),
            Register("frequency", "float32"),
            Register("power_factor", "float32"),
            Register("energy", "float32"),
            Register("counter", "uint32"),
        ),
    ),
    # scaled integers in holding registers, energy in 64 bits, like an ABB
    "meter2": Layout(
        "holding",
        0x5B00,
        (
            Register("energy", "int64", decimals=3),
            Register("voltage", "uint16", decimals=1),
            Register("current", "uint32", decimals=3, missing=_UINT32_MISSING),
            Register("power", "int32", decimals=2, missing=_INT32_MISSING),
            Register("power_factor", "int16", decimals=3, missing=_INT16_MISSING),
            Register("frequency", "uint16", decimals=2),
            Register("counter", "uint32"),
        ),
    ),
    # low word first for all that is longer than a register, like a Carlo Gavazzi
    "meter3": Layout(
        "input",
        0x0100,
        (
            Register("counter", "uint32", low_word_first=True),
            Register("voltage", "int32", decimals=1, low_word_first=True),
            Register("current", "int32", decimals=3, low_word_first=True),
            Register("power", "float32", low_word_first=True),
            Register("power_factor", "int16", decimals=3),
            Register("frequency", "uint16", decimals=1),
            Register("energy", "uint32", decimals=3, low_word_first=True, wraps=True),
        ),
    ),
    # one quantity not implemented, energy as float64, like a Siemens
    "meter4": Layout(
        "holding",
        801,
        (
            Register("energy", "float64"),
            Register("voltage", "uint16", decimals=1, missing=_UINT16_MISSING),
            Register("current", "uint16", decimals=2, missing=_UINT16_MISSING),
            Register("neutral_current", "uint16", decimals=2, missing=_UINT16_MISSING),
            Register("power", "int32", missing=_INT32_MISSING),
            Register("power_factor", "int16", decimals=2, missing=_INT16_MISSING),
            Register("frequency", "uint16", decimals=2, missing=_UINT16_MISSING),
            Register("counter", "uint32"),
        ),
    ),
    # int16 with scale factors and sentinels, like SunSpec model 103
    "inverter1": Layout(
        "holding",
        40_070,
        (
            Register("ac_current", "uint16", decimals=2, missing=_UINT16_MISSING),
            Register("ac_voltage", "uint16", decimals=1, missing=_UINT16_MISSING),
            Register("ac_power", "int16", decimals=-1, missing=_INT16_MISSING),
            Register("energy", "uint32", decimals=3, wraps=True),
            Register("dc_voltage", "uint16", decimals=1, missing=_UINT16_MISSING),
            Register("dc_power", "int16", decimals=-1, missing=_INT16_MISSING),
            Register("temperature", "int16", decimals=1, missing=_INT16_MISSING),
            Register("state", "uint16", missing=_UINT16_MISSING),
            Register("counter", "uint32"),
        ),
    ),
}
