"""Reads Modbus TCP devices: registers and bits of one unit over one connection, as columns."""

from protocols.modbus.description import driver_type
from protocols.modbus.driver import ModbusDriver
from protocols.modbus.options import ModbusDeviceOptions, ModbusPointOptions

__all__ = ["ModbusDeviceOptions", "ModbusDriver", "ModbusPointOptions", "driver_type"]
