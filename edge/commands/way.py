"""The way to a point: the connection that reads its device, and what is known of it right now."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from edge.collector import Collector, DeviceState, DeviceTask
from edge.writable import Value, WriteSection
from protocols.driver import Driver, PointSource, Writing
from shared.quality import QualityClass, class_of


@dataclass(frozen=True, slots=True)
class Target:
    """A writable point: its device, its limits, and the connection if there is one now."""

    device: str
    source: PointSource
    limits: WriteSection
    releases: bool
    driver: Driver | None

    @property
    def writing(self) -> Writing | None:
        """The connection, where it is there and can write."""
        return self.driver if isinstance(self.driver, Writing) else None


@dataclass(frozen=True, slots=True)
class Heard:
    """The last reading of a point: its value (None where it is not good), and how long ago."""

    value: Value | None
    age_s: float


class Way(Protocol):
    """How commands reach points."""

    def target(self, key: str) -> Target | None:
        """Find a point that may be written; None where there is none, or it may not."""
        ...

    def heard(self, key: str) -> Heard | None:
        """Tell the last reading of a point; None where its device is silent or unknown."""
        ...


class CollectorWay:
    """The way over the connections of the collector."""

    def __init__(self, collector: Collector) -> None:
        """Go through `collector`, whatever devices it has at the time."""
        self._collector = collector

    def target(self, key: str) -> Target | None:
        """Find a point that may be written."""
        for task, at in self._places(key):
            device = task.device
            limits = device.writes[at] if device.writes else None
            if limits is not None:
                source, releases = device.points[at], device.driver.releases
                return Target(device.name, source, limits, releases, task.driver)
        return None

    def heard(self, key: str) -> Heard | None:
        """Tell the last reading of a point that its device gave while it was connected."""
        for task, at in self._places(key):
            if task.state is not DeviceState.READING:
                return None
            found = self._collector.live.last(task.device, at)
            if found is None:
                return None
            value, age_s = found
            is_good = class_of(value.quality) is QualityClass.GOOD
            told = value.text if value.text is not None else value.value
            has_value = value.text is not None or not np.isnan(value.value)
            return Heard(told if is_good and has_value else None, age_s)
        return None

    def _places(self, key: str) -> Iterator[tuple[DeviceTask, int]]:
        for task in self._collector.tasks:
            for at, source in enumerate(task.device.points):
                if source.point.key == key:
                    yield task, at
