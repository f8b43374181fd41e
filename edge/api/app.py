"""The application: its routers, its problems, its OpenAPI 3.1 description, and its guard."""

from collections.abc import Sequence
from typing import Any, Final

from fastapi import APIRouter, FastAPI
from starlette.types import ASGIApp

from edge.api import (
    checkouts,
    commands,
    configuration,
    devices,
    drivers,
    gateway,
    imports,
    jobs,
    live,
    logs,
    looks,
    page,
    points,
    policies,
    safekeeping,
    sessions,
)
from edge.api.access import Declared, declared, refuse_undeclared
from edge.api.context import Context
from edge.api.guard import COOKIE, MAX_BODY, Guard, House
from edge.api.links import add_links
from edge.api.problems import documented, install, problem_schemas
from edge.document import MAX_BYTES
from edge.exchange.sheets import MAX_FILE_BYTES

OPENAPI_PATH: Final = "/api/v1/openapi.json"

ROUTERS: Final[Sequence[APIRouter]] = (
    page.router,
    sessions.router,
    gateway.router,
    configuration.router,
    policies.router,
    devices.router,
    imports.router,
    points.router,
    drivers.router,
    live.router,
    looks.router,
    jobs.router,
    commands.router,
    checkouts.router,
    logs.router,
    safekeeping.router,
)
"""One a resource; a further one is added here."""

LARGE: Final[dict[str, int]] = {
    **dict.fromkeys(configuration.DOCUMENT_PATHS, MAX_BYTES + MAX_BODY),
    imports.PATH: MAX_FILE_BYTES,
}
"""Paths whose bodies may be larger than `MAX_BODY`."""


def api_app(context: Context, routers: Sequence[APIRouter] = ROUTERS) -> FastAPI:
    """Make the application; serve it through `guarded` alone.

    Raises ValueError for a route without a declared policy: it would be open by forgetting.
    """
    routes = routes_of(routers)
    refuse_undeclared(routes)
    app = FastAPI(
        title="SPINE gateway",
        version="1",
        description="Configuration, live values and looks at devices, on site.",
        openapi_url=None,
        docs_url=None,  # its page would load from a CDN
        redoc_url=None,
        redirect_slashes=False,
        responses=documented(),
    )
    app.state.context = context
    install(app)
    for router in routers:
        app.include_router(router)
    _describe_access(app, routes)
    return app


def guarded(
    app: FastAPI, hosts: Sequence[str], *, is_local: bool = False, routers: Any = ROUTERS
) -> ASGIApp:
    """Put the guard before the application; `is_local` is for the Unix socket alone."""
    is_open = frozenset(
        (method, route.path)
        for route in routes_of(routers)
        if route.policy == "open"
        for method in route.methods
    )
    names = frozenset({"localhost", *(name.lower() for name in hosts)})
    context: Context = app.state.context
    return Guard(app, context.door, House(names, is_open, LARGE), is_local)


def routes_of(routers: Sequence[APIRouter]) -> list[Declared]:
    """List all routes with their policies."""
    return [route for router in routers for route in declared(router)]


def _describe_access(app: FastAPI, routes: Sequence[Declared]) -> None:
    write = app.openapi
    policies = {
        (route.path.replace(":path}", "}"), method.lower()): route.policy
        for route in routes
        for method in route.methods
    }

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is not None:
            return app.openapi_schema
        schema = write()
        components = schema.setdefault("components", {})
        components.setdefault("schemas", {}).update(problem_schemas())
        components["securitySchemes"] = {
            "session": {"type": "apiKey", "in": "cookie", "name": COOKIE}
        }
        for path, operations in schema["paths"].items():
            for method, operation in operations.items():
                policy = policies[path, method]
                if policy != "open":
                    operation["security"] = [{"session": []}]
                    operation["x-policy"] = policy
        add_links(schema)
        return schema

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documented way
