"""The application people and programs call: policies, problems, headers, and OpenAPI 3.1."""

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from typing import Any, Final

from fastapi import APIRouter, Depends, FastAPI
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from central.access import COOKIE, Declared, Doorkeeper, declared
from central.parameters import known_parameters
from central.problems import install, problem_schemas, respond
from central.storage.database import Pool

OPENAPI_PATH: Final = "/api/openapi.json"
_HEADERS: Final = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
}


def human_app(pool: Pool, names: Sequence[str], routers: Sequence[APIRouter]) -> FastAPI:
    """Make the application from routers.

    Raises ValueError for a route without a declared policy: it would be open by forgetting.
    """
    routes = [route for router in routers for route in declared(router)]
    is_described = any(route.path == OPENAPI_PATH for route in routes)
    app = FastAPI(
        title="SPINE",
        version="1",
        openapi_url=None if is_described else OPENAPI_PATH,
        docs_url=None,  # its page would load from a CDN
        redoc_url=None,
        redirect_slashes=False,
        dependencies=[Depends(known_parameters)],
    )
    app.state.doorkeeper = Doorkeeper(pool)
    install(app)
    refuse_undeclared(routes)
    for router in routers:
        app.include_router(router)
    app.add_middleware(HostAndHeaders, names=names)
    _describe_access(app, {route.path for route in routes if route.policy != "open_to_all"})
    return app


def refuse_undeclared(routes: Sequence[Declared]) -> None:
    """Raise ValueError where a route declares no policy: it would be open by forgetting."""
    bare = [route.path for route in routes if route.policy is None]
    if bare:
        msg = f"routes without a policy: {bare}"
        raise ValueError(msg)


class HostAndHeaders:
    """Refuses foreign Host headers (DNS rebinding) and adds the security headers to every answer.

    A WebSocket from a page of another origin is refused too: browsers send cookies with it.
    """

    def __init__(self, app: ASGIApp, names: Sequence[str]) -> None:
        self._app = app
        self._names = {name.lower() for name in names}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check, then pass on."""
        headers = Headers(scope=scope)
        host = headers.get("host", "")

        async def send_with_headers(message: Message) -> None:
            if message["type"] in ("http.response.start", "websocket.http.response.start"):
                answer = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    answer.setdefault(name, value)
            await send(message)

        if _name_of(host) not in self._names:
            problem = respond(
                421,
                "unknown_host",
                "Central does not serve this host name. Names are set by SPINE_NAMES.",
            )
            await problem(scope, receive, send_with_headers)
        elif scope["type"] == "websocket" and not _is_own(headers.get("origin"), host):
            problem = respond(
                403, "foreign_origin", "Live values are not for pages of other sites."
            )
            await problem(scope, receive, send_with_headers)
        else:
            await self._app(scope, receive, send_with_headers)


def _name_of(host: str) -> str:
    if host.startswith("["):
        return host[1 : host.find("]")].lower()
    return host.partition(":")[0].lower()


def _is_own(origin: str | None, host: str) -> bool:
    return origin is None or origin.partition("://")[2] == host


def _describe_access(app: FastAPI, guarded: AbstractSet[str]) -> None:
    write = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is not None:
            return app.openapi_schema
        schema = write()
        components = schema.setdefault("components", {})
        components.setdefault("schemas", {}).update(problem_schemas())
        components["securitySchemes"] = {
            "key": {"type": "http", "scheme": "bearer"},
            "session": {"type": "apiKey", "in": "cookie", "name": COOKIE},
        }
        for path, operations in schema["paths"].items():
            if path in guarded:
                for operation in operations.values():
                    operation["security"] = [{"key": []}, {"session": []}]
        return schema

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documented way
