"""OPC UA: points of a server, read in batches or pushed by a subscription."""

from protocols.opcua.driver import driver_type

__all__ = ["driver_type"]
