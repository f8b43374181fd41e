"""What ingress counts."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram


class IngressMetrics:
    """Counters and gauges of the link, one set a process."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.sessions = Gauge(
            "spine_ingress_sessions", "Gateways connected now.", registry=registry
        )
        self.refused_upgrades = Counter(
            "spine_ingress_refused_upgrades",
            "Connections refused before a frame was read, by reason.",
            ["reason"],
            registry=registry,
        )
        self.closed = Counter(
            "spine_ingress_closed_sessions",
            "Sessions that central closed, by close code.",
            ["code"],
            registry=registry,
        )
        self.batches = Counter(
            "spine_ingress_batches",
            "Batches received, by what became of them: accepted, refused, put_off, settled.",
            ["outcome"],
            registry=registry,
        )
        self.readings = Counter(
            "spine_ingress_readings",
            "Readings put into the log, by lane.",
            ["lane"],
            registry=registry,
        )
        self.body_bytes = Counter(
            "spine_ingress_body_bytes", "Bytes of batch bodies received.", registry=registry
        )
        self.in_hand = Gauge(
            "spine_ingress_batches_in_hand",
            "Batches received and not yet answered.",
            registry=registry,
        )
        self.publish_seconds = Histogram(
            "spine_ingress_publish_seconds",
            "Seconds from a received batch to its place in the log.",
            buckets=(0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
            registry=registry,
        )
        self.enrolments = Counter(
            "spine_ingress_enrolments",
            "Certificates asked for, by verb and outcome.",
            ["verb", "outcome"],
            registry=registry,
        )
