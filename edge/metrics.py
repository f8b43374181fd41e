"""The gateway's Prometheus metrics, read from the running parts when they are asked for."""

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from edge.collector import DeviceState
from edge.commands import State
from edge.parts import Parts
from edge.room import Room, written_bytes

FATES = ("produced", "delivered", "collapsed", "quarantined", "gaps")


class GatewayMetrics:
    """Collects for a registry; `room` is set by whoever answers /metrics, for it takes a wait."""

    def __init__(self, parts: Parts) -> None:
        """Ask `parts`."""
        self.room = Room(0, 0.0, None)
        self._parts = parts

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics that edge/README.md lists."""
        yield from self._readings()
        yield from self._outbox()
        yield from self._link()
        states = GaugeMetricFamily("spine_edge_devices", "Devices by state.", labels=["state"])
        for state in DeviceState:
            count = sum(task.state is state for task in self._parts.collector.tasks)
            states.add_metric([state.value], count)
        yield states
        yield self._commands()

    def _commands(self) -> Metric:
        ends = CounterMetricFamily(
            "spine_edge_commands", "Commands by what became of them.", labels=["state"]
        )
        commands = self._parts.commands
        if commands is not None:
            for state in State:
                if state.is_final:
                    ends.add_metric([state.value], commands.desk.counts[state])
        return ends

    def _readings(self) -> Iterator[Metric]:
        ledger = self._parts.ledger()
        readings = CounterMetricFamily(
            "spine_edge_readings", "Readings by what became of them.", labels=["fate"]
        )
        for fate in FATES:
            readings.add_metric([fate], ledger[fate])
        yield readings
        yield GaugeMetricFamily(
            "spine_edge_pending_readings", "Readings that wait in the outbox.", ledger["pending"]
        )
        yield GaugeMetricFamily(
            "spine_edge_held_readings", "Readings that wait for the clock.", ledger["held"]
        )
        dues = self._parts.intake.dues
        polls = CounterMetricFamily(
            "spine_edge_polls", "Points by what became of their poll.", labels=["fate"]
        )
        for fate in ("polled", "missed", "repeats", "suppressed", "aggregated"):
            polls.add_metric([fate], getattr(dues, fate))
        yield polls

    def _outbox(self) -> Iterator[Metric]:
        room = self.room
        yield GaugeMetricFamily(
            "spine_edge_outbox_bytes", "Bytes the outbox holds.", room.used_bytes
        )
        yield GaugeMetricFamily(
            "spine_edge_queue_age_seconds", "Age of the oldest pending batch.", room.queue_age_s
        )
        if room.days_left is not None:
            yield GaugeMetricFamily(
                "spine_edge_outbox_days_left", "Days until it is full.", room.days_left
            )
        if room.written_a_day is not None:
            yield GaugeMetricFamily(
                "spine_edge_written_bytes_per_day",
                "Bytes written to disk a day, over the last day.",
                room.written_a_day,
            )
        written = written_bytes()
        if written is not None:
            yield CounterMetricFamily("spine_edge_written_bytes", "Bytes written to disk.", written)

    def _link(self) -> Iterator[Metric]:
        uplink = self._parts.uplink
        yield GaugeMetricFamily(
            "spine_edge_link_up", "Whether central is connected.", uplink.is_connected
        )
        traffic = CounterMetricFamily(
            "spine_edge_link_bytes", "Bytes of frames on the link.", labels=["way"]
        )
        traffic.add_metric(["sent"], uplink.sent_bytes)
        traffic.add_metric(["received"], uplink.received_bytes)
        yield traffic
