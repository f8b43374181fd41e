"""Who may call a route of the human API: every route declares one policy, and a test checks it.

`open_to_all` lets anybody in (the page's shell, health, login). `project_reader` asks for an API
key (`Authorization: Bearer …`) or a session cookie of the project that the path names.
`session_holder` asks for a session cookie or a key of any project.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Path
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute, APIWebSocketRoute
from starlette.requests import HTTPConnection

from central.problems import ApiProblem
from central.storage.catalogue import find_key, find_session
from central.storage.database import Pool
from shared.model import SLUG_PATTERN

COOKIE: Final = "spine_session"
LONGEST_SECRET: Final = 200

ProjectSlug = Annotated[
    str, Path(pattern=SLUG_PATTERN, description="The project's short name.", examples=["demo"])
]


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls: by key or by session, always of one project."""

    project_id: int
    project: str
    by: str
    expires_at: datetime | None


class Doorkeeper:
    """Finds the caller of a connection by its key or cookie."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def caller(self, connection: HTTPConnection) -> Caller | None:
        """Tell who calls; None where neither a key nor a session is valid now."""
        key = bearer(connection.headers.get("authorization", ""))
        if key is not None:
            found = await find_key(self._pool, key)
            return None if found is None else Caller(found.project_id, found.project, "key", None)
        secret = connection.cookies.get(COOKIE, "")
        if not secret or len(secret) > LONGEST_SECRET:
            return None
        session = await find_session(self._pool, secret)
        if session is None:
            return None
        return Caller(session.project_id, session.project, "session", session.expires_at)


def bearer(header: str) -> str | None:
    """Read the key from an Authorization header; None where there is none."""
    scheme, _, key = header.partition(" ")
    key = key.strip()
    return key if scheme.lower() == "bearer" and 0 < len(key) <= LONGEST_SECRET else None


async def _anybody() -> None:
    """Let everybody in."""


async def _any_caller(connection: HTTPConnection) -> Caller:
    doorkeeper: Doorkeeper = connection.app.state.doorkeeper
    caller = await doorkeeper.caller(connection)
    if caller is None:
        raise ApiProblem(
            401,
            "not_signed_in",
            "No valid API key or session. Send an API key as 'Authorization: Bearer …', or open a "
            "login link.",
            {"WWW-Authenticate": "Bearer"},
        )
    return caller


async def _project_caller(
    project: ProjectSlug, caller: Annotated[Caller, Depends(_any_caller)]
) -> Caller:
    # The same answer whether the project exists or not: names of others are not told.
    if caller.project != project:
        raise ApiProblem(403, "other_project", f"Your access is not for project {project!r}.")
    return caller


open_to_all: Final = Depends(_anybody)
AnyCaller = Annotated[Caller, Depends(_any_caller)]
ProjectCaller = Annotated[Caller, Depends(_project_caller)]

POLICIES: Final = {
    _anybody: "open_to_all",
    _any_caller: "session_holder",
    _project_caller: "project_reader",
}


@dataclass(frozen=True, slots=True)
class Declared:
    """A route and the policy it declares; None where it declares none."""

    path: str
    methods: frozenset[str]
    policy: str | None


def declared(router: APIRouter) -> list[Declared]:
    """List the routes of a router with the strictest policy each declares."""
    found: list[Declared] = []
    shared = [each.dependency for each in router.dependencies]
    for route in router.routes:
        calls = list(shared)
        if isinstance(route, APIRoute | APIWebSocketRoute):
            calls.extend(_calls(route.dependant))
        methods = frozenset(getattr(route, "methods", None) or {"WEBSOCKET"})
        found.append(Declared(getattr(route, "path", ""), methods, _strictest(calls)))
    return found


def _strictest(calls: list[Any]) -> str | None:
    names = {POLICIES[call] for call in calls if call in POLICIES}
    for name in ("project_reader", "session_holder", "open_to_all"):
        if name in names:
            return name
    return None


def _calls(dependant: Dependant) -> Iterator[Any]:
    for each in dependant.dependencies:
        yield each.call
        yield from _calls(each)
