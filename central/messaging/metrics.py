"""What messaging counts, for /metrics."""

from prometheus_client import CollectorRegistry, Counter, Gauge


class MessagingMetrics:
    """The metrics of messaging in one registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._behind = Gauge(
            "spine_messaging_writer_behind_records",
            "Records of a topic that the writer has not committed yet",
            ["topic"],
            registry=registry,
        )
        self._lives = Counter(
            "spine_messaging_lost_topics",
            "Times that a topic was found to have lost its records",
            registry=registry,
        )

    def note_behind(self, topic: str, records: int) -> None:
        """Tell how many records of a topic wait for the writer."""
        self._behind.labels(topic).set(records)

    def note_lost(self) -> None:
        """Count a topic that has lost its records."""
        self._lives.inc()
