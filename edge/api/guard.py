"""What stands before the local API: no request gets to a route that is not fit to.

It refuses foreign `Host` names (DNS rebinding) and pages of other sites, knows the caller, closes
everything that is not open to those who are not signed in, limits size, time and number of
requests, and answers a defect without telling of its inside.
"""

import asyncio
import ipaddress
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie
from typing import Any, Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from edge.api.access import CALLER, Caller
from edge.api.door import Door, Role
from edge.api.problems import DEFECT, ApiProblem, respond
from shared.logs import get

COOKIE: Final = "spine_edge"
MAX_BODY: Final = 1024 * 1024
BODY_S: Final = 30.0
MOST_REQUESTS: Final = 16
"""Requests of callers that are known, served at once; WebSockets are limited as watches are."""

MOST_OF_STRANGERS: Final = 8
"""Requests of others: who is signed in is served though they leave theirs half sent."""

_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_STARTS: Final = ("http.response.start", "websocket.http.response.start", "websocket.accept")
_HEADERS: Final = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
}

_log = get("api")


@dataclass(frozen=True, slots=True)
class House:
    """What is served, and to whom: names it answers to, what is open to all, larger bodies."""

    hosts: AbstractSet[str]
    open_routes: AbstractSet[tuple[str, str]]
    """Method and path of what needs no session."""
    large: Mapping[str, int]
    """How many bytes the bodies of some paths may have."""


@dataclass(slots=True)
class Guard:
    """The outermost layer of the application."""

    app: ASGIApp
    door: Door
    house: House
    is_local: bool = False
    """Whether callers come over the Unix socket: then they are the gateway's own user."""
    _places: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(MOST_REQUESTS))
    _strangers: asyncio.Semaphore = field(
        default_factory=lambda: asyncio.Semaphore(MOST_OF_STRANGERS)
    )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check a request, then serve it."""
        if scope["type"] not in {"http", "websocket"}:
            return
        answer = _Answer(send)
        try:
            self._admit(scope)
            await self._serve(scope, receive, answer)
        except ApiProblem as problem:
            await respond(problem)(scope, receive, answer)
        except Exception:  # noqa: BLE001 - the root of a request: a defect ends here, not the gateway
            _log.exception("a request failed", method=_method(scope), path=scope["path"])
            if not answer.has_begun:
                await respond(ApiProblem("defect", DEFECT))(scope, receive, answer)

    def _admit(self, scope: Scope) -> None:
        headers = Headers(scope=scope)
        if self.is_local:
            scope[CALLER] = Caller(Role.TECHNICIAN, None)
            return
        if not self._is_known(headers.get("host", "")):
            detail = "This gateway does not serve this host name; see gateway.api.allowed_hosts."
            raise ApiProblem("unknown_host", detail)
        if _method(scope) not in _SAFE and not is_own(scope, headers):
            raise ApiProblem("foreign_origin", "Pages of other sites may not call this gateway.")
        session = self.door.find(_token(headers))
        if session is not None:
            scope[CALLER] = Caller(session.role, session)
        elif (_method(scope), scope["path"]) not in self.house.open_routes:
            raise ApiProblem("not_signed_in", "Open a link of `spine-edge api link`, or sign in.")

    def _is_known(self, host: str) -> bool:
        name = _name_of(host)
        return name in self.house.hosts or _is_address(name)

    async def _serve(self, scope: Scope, receive: Receive, answer: "_Answer") -> None:
        places = self._places if CALLER in scope else self._strangers
        if places.locked():
            detail = "As many requests as may be are being served: try again soon."
            raise ApiProblem("busy", detail, headers={"Retry-After": "1"})
        async with places:
            if scope["type"] == "http":
                most = self.house.large.get(scope["path"], MAX_BODY)
                await self.app(scope, _Body(receive, most, Headers(scope=scope)).receive, answer)
                return
        await self.app(scope, receive, answer)


class _Answer:
    """Adds the security headers, and knows whether an answer has begun."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.has_begun = False

    async def __call__(self, message: Message) -> None:
        """Send a message."""
        if message["type"] in _STARTS:
            self.has_begun = True
            headers = MutableHeaders(scope=message)
            for name, value in _HEADERS.items():
                headers.setdefault(name, value)
        await self._send(message)


class _Body:
    """A request's body, not larger and not slower than allowed."""

    def __init__(self, receive: Receive, most: int, headers: Headers) -> None:
        declared = headers.get("content-length", "0")
        if declared.isdecimal() and int(declared[:20]) > most:
            raise ApiProblem("too_large", _too_large(most))
        self._receive = receive
        self._most = most
        self._left = most
        self._ends_s = asyncio.get_running_loop().time() + BODY_S
        self._is_whole = False

    async def receive(self) -> Message:
        """Give the next part; what comes after the body is waited for as long as it takes."""
        if self._is_whole:
            return await self._receive()
        try:
            async with asyncio.timeout_at(self._ends_s):
                message = await self._receive()
        except TimeoutError as error:
            detail = f"The body was not there after {BODY_S:.0f} s."
            raise HTTPException(408, detail, {"Connection": "close"}) from error
        self._left -= len(message.get("body", b""))
        if self._left < 0:
            raise HTTPException(413, _too_large(self._most), {"Connection": "close"})
        self._is_whole = not message.get("more_body", False)
        return message


def _too_large(most: int) -> str:
    return f"The body is larger than the {most:,} bytes that this path takes."


def is_own(scope: Mapping[str, Any], headers: Headers) -> bool:
    """Tell whether a request is of a page of ours or of a program; browsers tell their page."""
    origin = headers.get("origin")
    if origin is None:
        return headers.get("sec-fetch-site", "none") in {"none", "same-origin"}
    scheme = {"ws": "http", "wss": "https"}.get(scope["scheme"], scope["scheme"])
    return origin.lower() == f"{scheme}://{headers.get('host', '').lower()}"


def _method(scope: Mapping[str, Any]) -> str:
    return str(scope.get("method", "WEBSOCKET"))


def _token(headers: Headers) -> str:
    try:
        found = SimpleCookie(headers.get("cookie", "")[:4_096]).get(COOKIE)
    except CookieError:
        return ""
    return "" if found is None else found.value


def _name_of(host: str) -> str:
    if host.startswith("["):
        return host[1 : host.find("]")].lower()
    return host.partition(":")[0].lower()


def _is_address(name: str) -> bool:
    # A name can be made to lead here by whoever owns it; an address cannot.
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
