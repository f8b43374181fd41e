"""Reads and writes BACnet/IP devices: properties of objects, as columns."""

from protocols.bacnet.driver import BacnetDriver, driver_type
from protocols.bacnet.options import BacnetDevice, BacnetPoint

__all__ = ["BacnetDevice", "BacnetDriver", "BacnetPoint", "driver_type"]
