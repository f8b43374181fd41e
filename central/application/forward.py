"""The API that egress serves, at the page's own origin, where the two are processes of their own.

What `application` does not serve itself below `/api/v1/` is asked of egress. Host and origin are
checked before it comes here, and so is that somebody has signed in; egress checks what he may see.
"""

import json
from typing import Any, Final

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from prometheus_client import CollectorRegistry
from starlette.requests import HTTPConnection
from starlette.responses import Response
from starlette.websockets import WebSocket

from central.access import AnyCaller, open_to_all
from central.application.reach import Place, Reach, checked_host, passed_on
from central.application.relay import Relay
from central.application.upstream import Upstream
from central.problems import ApiProblem

PREFIX: Final = "/api/v1/"
DESCRIPTION: Final = "/api/openapi.json"
DESCRIPTION_BYTES: Final = 4 * 1024 * 1024


class Forward:
    """Hands requests and live connections on to egress."""

    def __init__(
        self, egress_url: str, query_timeout_s: float, registry: CollectorRegistry
    ) -> None:
        place, reach = Place.read(egress_url), Reach(registry)
        self.upstream = Upstream(place, reach, query_timeout_s)
        self.relay = Relay(place, reach)

    def routes(self) -> APIRouter:
        """Make the routes; they come after all others, for they take every path of the API."""
        router = APIRouter(include_in_schema=False)

        @router.get(DESCRIPTION, dependencies=[open_to_all])
        async def description(request: Request) -> Response:
            """Describe the whole API: what is served here, and what egress serves."""
            host = [("host", _host(request))]
            status, body = await self.upstream.fetch(DESCRIPTION, host, DESCRIPTION_BYTES)
            return JSONResponse(_merged(_read(status, body), request.app.openapi()))

        @router.get(PREFIX + "{rest:path}")
        async def forward(request: Request, caller: AnyCaller) -> Response:
            """Ask egress."""
            _host(request)
            headers = passed_on(request.headers.items(), "content-length")
            return await self.upstream.answer(_target(request), headers)

        @router.websocket(PREFIX + "{rest:path}")
        async def live(websocket: WebSocket, caller: AnyCaller) -> None:
            """Connect through to egress."""
            await self.relay.connect(websocket, _host(websocket), _target(websocket))

        return router


def _host(connection: HTTPConnection) -> str:
    """Give the Host header; a request with several is refused. Source: RFC 9112, 3.2."""
    hosts = connection.headers.getlist("host")
    return checked_host(hosts[0] if len(hosts) == 1 else "")


def _target(connection: HTTPConnection) -> str:
    """Give path and query as they came; a path that leads out of the API is refused."""
    scope = connection.scope
    if {".", ".."} & set(scope["path"].split("/")):
        raise ApiProblem(404, "not_found", "Nothing is served at this path.")
    path, query = scope["raw_path"].decode("latin-1"), scope["query_string"].decode("latin-1")
    return f"{path}?{query}" if query else path


def _read(status: int, body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body) if status == 200 else None
    except ValueError:
        found = None
    if not isinstance(found, dict):
        detail = f"Egress answered {status} and no description of its API."
        raise ApiProblem(502, "egress_away", detail, {"Retry-After": "2"})
    return found


def _merged(theirs: dict[str, Any], ours: dict[str, Any]) -> dict[str, Any]:
    """Join two descriptions; what both have is ours."""
    parts = [one.get("components", {}) for one in (theirs, ours)]
    kinds = {kind for each in parts for kind in each}
    components = {kind: parts[0].get(kind, {}) | parts[1].get(kind, {}) for kind in kinds}
    paths = theirs.get("paths", {}) | ours.get("paths", {})
    return {**ours, "paths": paths, "components": components}
