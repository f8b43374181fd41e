"""What the gateway tells of itself over HTTP: alive, ready, metrics, status and ledger.

It binds loopback unless the configuration says otherwise, and only answers questions.
"""

from dataclasses import asdict

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from edge.metrics import GatewayMetrics
from edge.parts import Parts
from edge.room import room_text
from shared.metrics import CONTENT_TYPE, exposition, new_registry


def health_app(parts: Parts) -> Starlette:
    """Make the HTTP application."""
    registry = new_registry()
    gateway_metrics = GatewayMetrics(parts)
    registry.register(gateway_metrics)

    async def healthz(_: Request) -> Response:
        return PlainTextResponse("alive\n")

    async def readyz(_: Request) -> Response:
        ready = parts.is_ready()
        body = {"ready": ready, "link": parts.link(), "devices": parts.devices()}
        body["configuration"] = parts.configuration()
        return JSONResponse(body, 200 if ready else 503)

    async def metrics(_: Request) -> Response:
        gateway_metrics.room = await parts.room()
        return Response(exposition(registry), media_type=CONTENT_TYPE)

    async def ledger(_: Request) -> Response:
        room = room_text(asdict(await parts.room()))
        return JSONResponse({**parts.ledger(), "room": room})

    async def status(_: Request) -> Response:
        refusals = [
            {"epoch": epoch, "seq": seq, "code": code, "detail": detail, "at_us": at_us}
            for epoch, seq, code, detail, at_us in await parts.outbox.refusals()
        ]
        told = {"link": parts.link(), "devices": parts.devices(), "refused": refusals}
        told["configuration"] = parts.configuration()
        outbox = asdict(await parts.room())
        return JSONResponse({**told, "outbox": outbox, "ledger": parts.ledger()})

    routes = {
        "/healthz": healthz,
        "/readyz": readyz,
        "/metrics": metrics,
        "/ledger": ledger,
        "/status": status,
    }
    return Starlette(routes=[Route(path, serve) for path, serve in routes.items()])
