"""What the gateway tells of itself over HTTP: alive, ready, metrics, status and ledger.

It binds loopback unless the configuration says otherwise, and only answers questions.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from edge.collector import Collector, DeviceState
from edge.intake import Intake
from edge.outbox import Outbox
from edge.uplink import Uplink
from shared.metrics import CONTENT_TYPE, exposition, new_registry


@dataclass(frozen=True, slots=True)
class Parts:
    """The running parts that are asked."""

    outbox: Outbox
    intake: Intake
    collector: Collector
    uplink: Uplink

    def ledger(self) -> dict[str, Any]:
        """Give the ledger, the dues of this process and whether the books balance."""
        ledger = self.outbox.index.ledger()
        dues = asdict(self.intake.dues)
        return {**asdict(ledger), "imbalance": ledger.imbalance(), "since_start": dues}

    def devices(self) -> dict[str, dict[str, str]]:
        """Give the state of each device, and its problem where it has one."""
        return {
            task.device.name: {"state": task.state.value, "problem": task.problem}
            for task in self.collector.tasks
        }

    def link(self) -> dict[str, Any]:
        """Give the state of the link to central."""
        return {"connected": self.uplink.is_connected, "problem": self.uplink.problem}


def health_app(parts: Parts) -> Starlette:
    """Make the HTTP application."""
    registry = new_registry()
    registry.register(_Readings(parts))

    async def healthz(_: Request) -> Response:
        return PlainTextResponse("alive\n")

    async def readyz(_: Request) -> Response:
        devices = parts.devices()
        connecting = [n for n, d in devices.items() if d["state"] == DeviceState.CONNECTING]
        body = {"ready": not connecting, "link": parts.link(), "devices": devices}
        return JSONResponse(body, 503 if connecting else 200)

    async def metrics(_: Request) -> Response:
        return Response(exposition(registry), media_type=CONTENT_TYPE)

    async def ledger(_: Request) -> Response:
        return JSONResponse(parts.ledger())

    async def status(_: Request) -> Response:
        refusals = [
            {"epoch": epoch, "seq": seq, "code": code, "detail": detail, "at_us": at_us}
            for epoch, seq, code, detail, at_us in await parts.outbox.refusals()
        ]
        used = await parts.outbox.used_bytes()
        body = {"link": parts.link(), "devices": parts.devices(), "refused": refusals}
        return JSONResponse({**body, "outbox_bytes": used, "ledger": parts.ledger()})

    routes = {
        "/healthz": healthz,
        "/readyz": readyz,
        "/metrics": metrics,
        "/ledger": ledger,
        "/status": status,
    }
    return Starlette(routes=[Route(path, serve) for path, serve in routes.items()])


class _Readings:
    """The gateway's numbers, read when they are asked for."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics of docs/reference/metrics.md."""
        ledger = self._parts.ledger()
        readings = CounterMetricFamily(
            "spine_edge_readings", "Readings by what became of them.", labels=["fate"]
        )
        for fate in ("produced", "delivered", "collapsed", "quarantined", "gaps"):
            readings.add_metric([fate], ledger[fate])
        yield readings
        yield GaugeMetricFamily(
            "spine_edge_pending_readings", "Readings that wait in the outbox.", ledger["pending"]
        )
        polls = CounterMetricFamily(
            "spine_edge_polls", "Points polled, missed and repeated.", labels=["fate"]
        )
        for fate, count in ledger["since_start"].items():
            polls.add_metric([fate], count)
        yield polls
        yield GaugeMetricFamily(
            "spine_edge_link_up", "Whether central is connected.", self._parts.uplink.is_connected
        )
        states = GaugeMetricFamily("spine_edge_devices", "Devices by state.", labels=["state"])
        tasks = self._parts.collector.tasks
        for state in DeviceState:
            states.add_metric([state.value], sum(task.state is state for task in tasks))
        yield states
