"""What the flow counts, for /metrics."""

from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry, Counter, Gauge
from prometheus_client.metrics_core import HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from shared.clock import MICROSECONDS
from shared.columns import Columns
from shared.quality import CLASS_SHIFT, QualityClass

BUCKETS_S: Final = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""A reading older than 60 s when central received it is not of the live lane."""


class Delays(Collector):
    """How old readings were when central received them: a histogram that takes whole columns."""

    def __init__(self, name: str, told: str) -> None:
        self._name = name
        self._told = told
        self._edges_us = np.asarray(BUCKETS_S) * MICROSECONDS
        self._counts: dict[str, NDArray[np.int64]] = {}
        self._sums: dict[str, float] = {}

    def observe(self, project: str, delays_us: NDArray[np.int64]) -> None:
        """Count delays; one below zero (a clock that is ahead) counts as none."""
        late_us = np.maximum(delays_us, 0)
        places = np.searchsorted(self._edges_us, late_us)
        counted = np.bincount(places, minlength=len(BUCKETS_S) + 1)
        self._counts[project] = self._counts.get(project, 0) + counted
        self._sums[project] = self._sums.get(project, 0.0) + float(late_us.sum()) / MICROSECONDS

    def collect(self) -> Iterator[Metric]:
        """Give the histogram in Prometheus' form."""
        family = HistogramMetricFamily(self._name, self._told, labels=["project"])
        edges = [*map(str, BUCKETS_S), "+Inf"]
        for project, counts in self._counts.items():
            family.add_metric(
                [project],
                list(zip(edges, np.cumsum(counts).tolist(), strict=True)),
                self._sums[project],
            )
        yield family


class FlowMetrics:
    """The metrics of analytics in one registry; all carry the project."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._readings = Counter(
            "spine_analytics_readings",
            "Readings of the live lane by the class of their quality",
            ["project", "quality"],
            registry=registry,
        )
        self._batches = Counter(
            "spine_analytics_batches",
            "Batches of the live lane by what became of them",
            ["project", "outcome"],
            registry=registry,
        )
        self._behind = Gauge(
            "spine_analytics_behind_records",
            "Records of the live lane that were not followed yet",
            ["project"],
            registry=registry,
        )
        self._outages = Counter(
            "spine_analytics_outages",
            "Times that the log was away",
            ["project"],
            registry=registry,
        )
        told = "How old readings were when central received them"
        self._delays = Delays("spine_analytics_delay_seconds", told)
        registry.register(self._delays)

    def note_readings(self, project: str, received_at: int, columns: Columns) -> None:
        """Count one batch of readings."""
        self.note_batch(project, "counted")
        classes = np.minimum(columns.quality >> CLASS_SHIFT & 0x3, QualityClass.BAD)
        for klass, count in zip(QualityClass, np.bincount(classes, minlength=3), strict=True):
            self._readings.labels(project, klass.name.lower()).inc(int(count))
        self._delays.observe(project, received_at - columns.observed_at)

    def note_batch(self, project: str, outcome: str) -> None:
        """Count one batch: counted, repeated, earlier (than the start) or unreadable."""
        self._batches.labels(project, outcome).inc()

    def note_behind(self, project: str, records: int) -> None:
        """Tell how many records of a project wait."""
        self._behind.labels(project).set(records)

    def note_outage(self, project: str) -> None:
        """Count an outage of the log."""
        self._outages.labels(project).inc()
