"""What egress counts."""

from prometheus_client import CollectorRegistry, Counter, Gauge


class EgressMetrics:
    """Counters and gauges of egress, one set a process."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.readings = Counter(
            "spine_egress_readings",
            "Readings given out, by way: latest, history, live.",
            ["way"],
            registry=registry,
        )
        self.live_clients = Gauge(
            "spine_egress_live_clients", "Live connections now.", registry=registry
        )
        self.dropped_deltas = Counter(
            "spine_egress_dropped_deltas",
            "Deltas that slow live clients missed; each was told so.",
            registry=registry,
        )
