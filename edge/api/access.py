"""Who may call a route: every route declares one policy, and a route without one is refused.

`OPEN` lets anybody in (signing in, the page, the description). `VIEWER` asks for a session that may
look, `TECHNICIAN` for one that may change, `LOCAL` for the gateway's own command line, which comes
over a Unix socket that only the gateway's user can open and may do everything.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute, APIWebSocketRoute
from starlette.requests import HTTPConnection

from edge.api.door import Role, Session
from edge.api.problems import ApiProblem

CALLER: Final = "spine.caller"
"""Where the guard puts the caller into the scope."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls; `session` is None for the gateway's own command line."""

    role: Role
    session: Session | None

    @property
    def source(self) -> str:
        """What revisions of this caller are marked with."""
        return "cli" if self.session is None else "api"


async def _anybody() -> None:
    """Let everybody in."""


async def _viewer(connection: HTTPConnection) -> Caller:
    caller = connection.scope.get(CALLER)
    if not isinstance(caller, Caller):
        raise ApiProblem("not_signed_in", "Open a link of `spine-edge api link`, or sign in.")
    return caller


async def _technician(caller: Annotated[Caller, Depends(_viewer)]) -> Caller:
    if caller.role is not Role.TECHNICIAN:
        raise ApiProblem("not_allowed", "This session may only look: sign in as technician.")
    return caller


async def _local(caller: Annotated[Caller, Depends(_viewer)]) -> Caller:
    if caller.session is not None:
        raise ApiProblem("local_only", "Use `spine-edge` on the gateway itself.")
    return caller


OPEN: Final = Depends(_anybody)
VIEWER: Final = Depends(_viewer)
TECHNICIAN: Final = Depends(_technician)
LOCAL: Final = Depends(_local)

Technician = Annotated[Caller, Depends(_technician)]
Viewer = Annotated[Caller, Depends(_viewer)]

_STRICTEST_FIRST: Final = {
    _local: "local",
    _technician: "technician",
    _viewer: "viewer",
    _anybody: "open",
}


@dataclass(frozen=True, slots=True)
class Declared:
    """A route and the policy it declares; None where it declares none."""

    path: str
    methods: frozenset[str]
    policy: str | None


def declared(router: APIRouter) -> list[Declared]:
    """List the routes of a router with the strictest policy each declares."""
    return [_declared(route, router) for route in router.routes]


def _declared(route: Any, router: APIRouter) -> Declared:
    calls = [each.dependency for each in router.dependencies]
    if isinstance(route, APIRoute | APIWebSocketRoute):
        calls.extend(_calls(route.dependant))
    names = [name for call, name in _STRICTEST_FIRST.items() if call in calls]
    methods = frozenset(getattr(route, "methods", None) or {"WEBSOCKET"})
    return Declared(getattr(route, "path", ""), methods, names[0] if names else None)


def _calls(dependant: Dependant) -> Iterator[Any]:
    for each in dependant.dependencies:
        yield each.call
        yield from _calls(each)


def refuse_undeclared(routes: Sequence[Declared]) -> None:
    """Raise ValueError where a route declares no policy: it would be open by forgetting."""
    bare = [route.path for route in routes if route.policy is None]
    if bare:
        msg = f"routes without a policy: {bare}"
        raise ValueError(msg)
