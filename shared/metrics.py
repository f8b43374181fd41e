"""Prometheus metrics of one process: a registry of its own, and the text that /metrics answers."""

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, ProcessCollector
from prometheus_client.exposition import generate_latest

CONTENT_TYPE = CONTENT_TYPE_LATEST


def new_registry() -> CollectorRegistry:
    """Make a registry that already tells CPU, memory and open files of the process."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    return registry


def exposition(registry: CollectorRegistry) -> bytes:
    """Write the registry as Prometheus text."""
    return generate_latest(registry)
