"""What the registry is told of the Modbus driver."""

from protocols.driver import DriverType
from protocols.modbus.discovery import discover
from protocols.modbus.driver import ModbusDriver, unit_of
from protocols.modbus.options import ModbusDeviceOptions, ModbusPointOptions
from protocols.modbus.search import ModbusSearch


def driver_type() -> DriverType:
    """Describe the Modbus driver to the registry."""
    return DriverType(
        name="modbus",
        title="Modbus",
        device_options=ModbusDeviceOptions,
        point_options=ModbusPointOptions,
        make=ModbusDriver,
        address=unit_of,
        discover=discover,
        discover_options=ModbusSearch,
    )
