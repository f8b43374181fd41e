"""The drivers that read building hardware, their contract, and a simulated building to read."""
