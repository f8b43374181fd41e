"""Live connections handed on to egress; the module here that knows the websockets client."""

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Final

from starlette.responses import Response
from starlette.websockets import WebSocket, WebSocketDisconnect
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, InvalidURI, WebSocketException

from central.application.reach import Header, Place, Reach, passed_on, wrong_path

OPEN_S: Final = 10.0
PING_S: Final = 10.0
CLOSE_S: Final = 2.0
MOST_BYTES: Final = 32 * 1024 * 1024
"""The largest frame: a snapshot of some 100,000 points."""
MOST_WAITING: Final = 4
AWAY: Final = 1013
TOO_LARGE: Final = 1009
NO_CODE: Final = 1005
_OWN: Final = (
    "host",
    "origin",
    "sec-websocket-accept",
    "sec-websocket-extensions",
    "sec-websocket-key",
    "sec-websocket-protocol",
    "sec-websocket-version",
)
"""Headers of the handshake itself; the origin was checked at the front."""


class Relay:
    """Connects live clients through to egress: a slow client slows its own connection only."""

    def __init__(self, place: Place, reach: Reach) -> None:
        self._place = place
        self._reach = reach

    async def connect(self, client: WebSocket, host: str, target: str) -> None:
        """Hand a connection on until either side closes it; `host` is the Host header.

        What egress refuses is refused in its words; raises `ApiProblem` where it is away.
        """
        try:
            upstream = await self._open(host, target, passed_on(client.headers.items(), *_OWN))
        except InvalidStatus as refusal:
            if refusal.response.status_code < 400:
                raise self._reach.away(refusal) from refusal
            self._reach.note_answer()
            await client.send_denial_response(_denial(refusal))
            return
        except InvalidURI as error:
            raise wrong_path() from error
        except TimeoutError as error:
            raise self._reach.slow() from error
        except (OSError, WebSocketException) as error:
            raise self._reach.away(error) from error
        self._reach.note_answer()
        async with upstream:
            await client.accept()
            await _join(client, upstream)

    async def _open(self, host: str, target: str, headers: Sequence[Header]) -> ClientConnection:
        scheme = "wss" if self._place.scheme == "https" else "ws"
        return await _Connect(
            f"{scheme}://{host}{target}",
            host=self._place.host,
            port=self._place.port,
            additional_headers=list(headers),
            user_agent_header=None,
            proxy=None,
            compression=None,
            open_timeout=OPEN_S,
            ping_interval=PING_S,
            ping_timeout=PING_S,
            close_timeout=CLOSE_S,
            max_size=MOST_BYTES,
            max_queue=MOST_WAITING,
        )


class _Connect(connect):
    def process_redirect(self, exc: Exception) -> Exception | str:
        """Follow no redirect: egress is where the settings say."""
        return exc


async def _join(client: WebSocket, upstream: ClientConnection) -> None:
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(_send_down(client, upstream))
            group.create_task(_send_up(client, upstream))
    except* WebSocketDisconnect:
        pass
    except* ConnectionClosed as closed:
        code, reason = _close_of(closed)
        with contextlib.suppress(WebSocketDisconnect):  # the client may have gone as well
            await client.close(code, reason)


async def _send_down(client: WebSocket, upstream: ClientConnection) -> None:
    while True:
        message = await upstream.recv()
        if isinstance(message, str):
            await client.send_text(message)
        else:
            await client.send_bytes(message)


async def _send_up(client: WebSocket, upstream: ClientConnection) -> None:
    while True:
        message = await client.receive()
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(message.get("code", NO_CODE))
        text = message.get("text")
        await upstream.send(message["bytes"] if text is None else text)


def _close_of(closed: BaseExceptionGroup[ConnectionClosed]) -> tuple[int, str]:
    first: BaseException = closed
    while isinstance(first, BaseExceptionGroup):
        first = first.exceptions[0]
    if isinstance(first, ConnectionClosed):
        if first.rcvd is not None:
            return (1000 if first.rcvd.code == NO_CODE else first.rcvd.code), first.rcvd.reason
        if first.sent is not None and first.sent.code == TOO_LARGE:
            return TOO_LARGE, "a frame of egress is too large"
    return AWAY, "the part of central that feeds this is away"


def _denial(refusal: InvalidStatus) -> Response:
    response = refusal.response
    kept = passed_on(response.headers.raw_items(), "content-length", "date", "server")
    denial = Response(bytes(response.body or b""), response.status_code)
    length = [header for header in denial.raw_headers if header[0] == b"content-length"]
    denial.raw_headers = [
        *((name.encode("latin-1"), value.encode("latin-1")) for name, value in kept),
        *length,
    ]
    return denial
