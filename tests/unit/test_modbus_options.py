"""What an installer may set, and what is refused with a sentence."""

import pytest
from pydantic import ValidationError

from protocols.modbus import ModbusDeviceOptions, ModbusPointOptions


def test_a_coil_is_a_bool_without_saying_so() -> None:
    assert ModbusPointOptions.model_validate({"table": "coil", "register": 3}).type == "bool"


def test_options_survive_being_written_and_read() -> None:
    fields = {"table": "input", "register": 7, "type": "int16", "sentinels": [0x8000, -1]}
    options = ModbusPointOptions.model_validate(fields)
    assert ModbusPointOptions.model_validate(options.model_dump()) == options
    assert ModbusPointOptions.model_validate_json(options.model_dump_json()) == options


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"register": 65_533, "type": "float64"}, "beyond register 65535"),
        ({"register": 0, "type": "bool"}, "bit belongs to type bool in a register"),
        ({"register": 0, "bit": 3}, "bit belongs to type bool in a register"),
        ({"register": 0, "table": "coil", "type": "bool", "bit": 3}, "bit belongs"),
        ({"register": 0, "table": "discrete", "type": "uint16"}, "holds type bool only"),
        ({"register": 0, "scale": 0}, "scale must not be 0"),
        ({"register": 0, "sentinels": [0x10000]}, "does not fit type uint16"),
        ({"register": 0, "sentinels": [-1]}, "does not fit type uint16"),
        ({"register": 0, "type": "int16", "sentinels": [-32_769]}, "does not fit type int16"),
        ({"register": 0, "type": "int32", "sentinels": [1.5]}, "does not fit type int32"),
        ({"register": 0, "type": "bool", "bit": 0, "sentinels": [1]}, "bool has no sentinels"),
        ({"register": "0"}, "valid integer"),
        ({"register": 0, "sentinels": list(range(9))}, "at most 8"),
    ],
)
def test_points_that_cannot_work_are_refused_with_a_sentence(
    fields: dict[str, object], sentence: str
) -> None:
    with pytest.raises(ValidationError, match=sentence):
        ModbusPointOptions.model_validate(fields)


def test_a_device_needs_its_host_only() -> None:
    options = ModbusDeviceOptions.model_validate({"host": "meter.lan"})
    assert (options.port, options.unit, options.max_registers) == (502, 1, 125)
