"""What the writer counts, for /metrics."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from central.storage.settling import Outcome


class WriterMetrics:
    """The writer's metrics in one registry; all carry the project."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._batches = Counter(
            "spine_writer_batches",
            "Batches by what became of them",
            ["project", "outcome"],
            registry=registry,
        )
        self._readings = Counter(
            "spine_writer_readings",
            "Readings by what became of them",
            ["project", "outcome"],
            registry=registry,
        )
        self._seconds = Histogram(
            "spine_writer_transaction_seconds",
            "Time from begin to commit of one transaction",
            ["project"],
            buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10),
            registry=registry,
        )
        self._lag = Gauge(
            "spine_writer_lag_seconds",
            "Age of the newest batch when it was committed, since central received it",
            ["project", "topic"],
            registry=registry,
        )
        self._outages = Counter(
            "spine_writer_outages",
            "Times that the log or the database was away",
            ["project"],
            registry=registry,
        )

    def note_written(self, project: str, outcome: Outcome, seconds: float) -> None:
        """Count one committed transaction."""
        self._seconds.labels(project).observe(seconds)
        self._batches.labels(project, "settled").inc(outcome.batches)
        self._batches.labels(project, "repeated").inc(outcome.repeated)
        self._readings.labels(project, "delivered").inc(outcome.delivered)
        self._readings.labels(project, "collapsed").inc(outcome.collapsed)
        self._readings.labels(project, "quarantined").inc(outcome.quarantined)

    def note_lag(self, project: str, topic: str, seconds: float) -> None:
        """Tell how old the newest batch was when it was committed."""
        self._lag.labels(project, topic).set(seconds)

    def note_outage(self, project: str) -> None:
        """Count an outage of the log or the database."""
        self._outages.labels(project).inc()
