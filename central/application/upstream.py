"""Requests to egress over HTTP, with limits on everything; the module here that knows httpx2."""

import asyncio
from collections.abc import Sequence
from typing import Final

import httpx2
from starlette.responses import StreamingResponse
from starlette.types import Send

from central.application.reach import Header, Place, Reach, passed_on, wrong_path
from central.problems import ApiProblem
from shared.errors import SpineError

CONNECTIONS: Final = 64
CONNECT_S: Final = 3.0
WAIT_S: Final = 5.0
BEYOND_QUERY_S: Final = 5.0
"""Egress ends a query at its own time limit and says so; this much later it is given up here."""
MOST_BYTES: Final = 64 * 1024 * 1024
WHOLE_S: Final = 300.0
TRIES: Final = 2


class EgressAway(SpineError):
    """Egress does not answer as it should."""


class Upstream:
    """Asks egress; at most 64 requests at a time, more wait 5 s and are then refused."""

    def __init__(self, place: Place, reach: Reach, query_timeout_s: float) -> None:
        self._place = place
        self._reach = reach
        self._timeout = httpx2.Timeout(
            query_timeout_s + BEYOND_QUERY_S, connect=CONNECT_S, pool=WAIT_S
        )
        limits = httpx2.Limits(
            max_connections=CONNECTIONS, max_keepalive_connections=16, keepalive_expiry=2.0
        )
        # The transport alone: no cookie jar that callers would share, no proxy of the
        # environment, no redirect.
        self._transport = httpx2.AsyncHTTPTransport(limits=limits, trust_env=False)

    async def run(self) -> None:
        """Hold the connections until cancelled, then close them."""
        try:
            await asyncio.Event().wait()
        finally:
            await self._transport.aclose()

    async def tell(self) -> str:
        """Tell whether egress answers, for /readyz; raises `EgressAway`."""
        try:
            status, _ = await self.fetch("/healthz", [("host", self._place.host)], 4_096)
        except ApiProblem as problem:
            raise EgressAway(problem.detail) from problem
        if status != 200:
            raise EgressAway(f"it answers {status} to /healthz")
        return "answers"

    async def fetch(self, target: str, headers: Sequence[Header], most: int) -> tuple[int, bytes]:
        """Ask for a small answer: its status and body. Raises `ApiProblem`."""
        response = await self._ask(target, headers)
        body = b""
        try:
            async for chunk in response.aiter_raw():
                body += chunk
                if len(body) > most:
                    raise self._reach.away(EgressAway(f"more than {most} bytes from {target}"))
        except httpx2.TimeoutException as error:
            raise self._reach.slow() from error
        except httpx2.TransportError as error:
            raise self._reach.away(error) from error
        finally:
            await response.aclose()
        return response.status_code, body

    async def answer(self, target: str, headers: Sequence[Header]) -> StreamingResponse:
        """Ask for an answer that is passed on piece by piece. Raises `ApiProblem`.

        One that says it has more than 64 MiB is refused; one that turns out to, that stalls, or
        that takes longer than 5 minutes is broken off.
        """
        response = await self._ask(target, headers)
        told = response.headers.get("content-length", "0")
        if not told.isdigit() or int(told) > MOST_BYTES:
            await response.aclose()
            raise self._reach.away(EgressAway(f"an answer of {told} bytes"))
        return _Answer(response, self._reach)

    async def _ask(self, target: str, headers: Sequence[Header]) -> httpx2.Response:
        request = self._request(target, headers)
        tries = TRIES
        while True:
            tries -= 1
            try:
                response = await self._transport.handle_async_request(request)
            except httpx2.PoolTimeout as error:
                raise self._reach.busy() from error
            except httpx2.ConnectTimeout as error:
                raise self._reach.away(error) from error
            except httpx2.TimeoutException as error:
                raise self._reach.slow() from error
            except httpx2.TransportError as error:
                # A connection that was kept may have been closed just now; GET can be repeated.
                if isinstance(error, httpx2.ConnectError) or not tries:
                    raise self._reach.away(error) from error
            else:
                self._reach.note_answer()
                return response

    def _request(self, target: str, headers: Sequence[Header]) -> httpx2.Request:
        place, path = self._place, target.encode("latin-1")
        try:
            url = httpx2.URL(scheme=place.scheme, host=place.host, port=place.port, raw_path=path)
        except httpx2.InvalidURL as error:
            raise wrong_path() from error
        raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]
        extensions = {"timeout": self._timeout.as_dict()}
        return httpx2.Request("GET", url, headers=raw, extensions=extensions)


class _Answer(StreamingResponse):
    """What egress answers, passed on as it comes; a slow caller slows egress down."""

    def __init__(self, response: httpx2.Response, reach: Reach) -> None:
        super().__init__(response.aiter_raw(), response.status_code)
        self._response = response
        self._reach = reach
        came = (
            (name.decode("latin-1"), value.decode("latin-1"))
            for name, value in response.headers.raw
        )
        kept = passed_on(came, "date", "server")
        self.raw_headers = [
            (name.encode("latin-1"), value.encode("latin-1")) for name, value in kept
        ]

    async def stream_response(self, send: Send) -> None:
        """Send what comes; what breaks off is left unfinished, so that the caller sees it."""
        start = {"type": "http.response.start", "status": self.status_code}
        try:
            async with asyncio.timeout(WHOLE_S):
                await send({**start, "headers": self.raw_headers})
                await self._stream_body(send)
                await send({"type": "http.response.body", "body": b"", "more_body": False})
        except (httpx2.TransportError, TimeoutError, EgressAway) as error:
            self._reach.cut(f"{type(error).__name__}: {error}")
        finally:
            await self._response.aclose()

    async def _stream_body(self, send: Send) -> None:
        came = 0
        async for chunk in self._response.aiter_raw():
            came += len(chunk)
            if came > MOST_BYTES:
                raise EgressAway(f"an answer of more than {MOST_BYTES} bytes")
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
