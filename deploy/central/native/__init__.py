"""The native launcher: real servers (Kafka, registry, TimescaleDB, Mosquitto) without Docker."""
