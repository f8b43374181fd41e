"""OPC UA: points of a server, read in batches or pushed by a subscription."""

from importlib import import_module

from protocols.driver import DriverType

__all__ = ["driver_type"]


def driver_type() -> DriverType:
    """Describe the driver to the registry."""
    # Imported only now: asyncua takes 15 MB of memory, and the command line needs trust alone.
    described: DriverType = import_module("protocols.opcua.driver").driver_type()
    return described
