"""The BACnet/IP driver."""
