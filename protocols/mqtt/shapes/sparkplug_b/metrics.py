"""What births of an edge node and its devices declared: names, aliases, types; last values."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from protocols.mqtt.shapes.sparkplug_b.datatypes import Value
from protocols.mqtt.shapes.sparkplug_b.payload import Metric

MAX_METRICS: Final = 50_000
"""How many metrics of one edge node are kept; more are passed over."""

_UNITS: Final = ("engUnit", "EngUnit", "Engineering Units", "units", "Units", "unit")


@dataclass(slots=True)
class Known:
    """A metric that a birth declared; `device` is empty where it is the edge node's own."""

    device: str
    name: str
    datatype: int
    unit: str = ""
    is_read_only: bool = False
    value: Value | None = None
    at_us: int = 0
    """When it had its last value."""


class Metrics:
    """The metrics of one edge node.

    An alias is looked up among those of its own device: the specification wants it unique in the
    whole node, but not every device does it.
    """

    def __init__(self) -> None:
        self._by_name: dict[tuple[str, str], Known] = {}
        self._by_alias: dict[tuple[str, int], Known] = {}

    def __iter__(self) -> Iterator[Known]:
        return iter(self._by_name.values())

    def clear(self) -> None:
        """Forget all: the node is born anew."""
        self._by_name.clear()
        self._by_alias.clear()

    def declare(self, device: str, metrics: Iterable[Metric]) -> None:
        """Take the metrics of a birth instead of those that the device had."""
        for name in [name for name in self._by_name if name[0] == device]:
            del self._by_name[name]
        for alias in [alias for alias in self._by_alias if alias[0] == device]:
            del self._by_alias[alias]
        for metric in metrics:
            if metric.name is None or len(self._by_name) == MAX_METRICS:
                continue
            is_read_only = bool(metric.properties.get("readOnly"))
            known = Known(device, metric.name, metric.datatype or 0, _unit(metric), is_read_only)
            self._by_name[device, metric.name] = known
            if metric.alias is not None:
                self._by_alias[device, metric.alias] = known

    def find(self, device: str, metric: Metric) -> Known | None:
        """Tell which metric a message means, by its name or its alias; None if nobody knows.

        One that carries name and type needs no birth.
        """
        if metric.name is None:
            return None if metric.alias is None else self._by_alias.get((device, metric.alias))
        known = self._by_name.get((device, metric.name))
        if known is None and metric.datatype:
            return Known(device, metric.name, metric.datatype)
        return known

    def named(self, device: str, name: str) -> Known | None:
        """Find a declared metric by its name."""
        return self._by_name.get((device, name))


def _unit(metric: Metric) -> str:
    found = (metric.properties.get(name) for name in _UNITS)
    return next((unit[:40] for unit in found if isinstance(unit, str) and unit), "")
