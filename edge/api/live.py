"""Live values over a WebSocket: a snapshot, then what changes.

Messages are JSON texts: `{"type": "snapshot" | "changes", "values": […], "lagged": n}`. Nothing
queues up for a slow client: it gets the newest values, and `lagged` says how many it did not see.
"""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, WebSocket, WebSocketDisconnect

from edge.api.access import VIEWER, Viewer
from edge.api.context import Here
from edge.api.readings import reading
from edge.live import Changes, LiveValue, Watch

router = APIRouter(prefix="/api/v1", tags=["live"])

PACE_S: Final = 0.2
"""The least time between two messages."""

LOOK_S: Final = 5.0
"""How often it is looked whether the session still lives when nothing changes."""

IN_A_MESSAGE: Final = 1_000
SESSION_OVER: Final = 4401

Keys = Annotated[list[str], Query(alias="key", max_length=1_000)]
DeviceName = Annotated[str, Query(max_length=80)]


@router.websocket("/live", dependencies=[VIEWER])
async def live(
    socket: WebSocket,
    caller: Viewer,
    here: Here,
    device: DeviceName = "",
    keys: Keys = [],  # noqa: B006 - FastAPI copies it
) -> None:
    """Tell the last readings, of all points or of a device or some keys, and what changes."""
    wanted = frozenset(keys)
    with here.parts.collector.live.watch() as watch:
        await socket.accept()
        with suppress(WebSocketDisconnect):
            telling = asyncio.create_task(_tell(socket, watch, (device, wanted), here, caller))
            try:
                await _until_gone(socket)
            finally:
                telling.cancel()
                await asyncio.wait({telling})


async def _until_gone(socket: WebSocket) -> None:
    """Read until the client goes away or was closed; what it says means nothing."""
    while (await socket.receive())["type"] != "websocket.disconnect":
        pass


async def _tell(
    socket: WebSocket,
    watch: Watch,
    wanted: tuple[str, frozenset[str]],
    here: Here,
    caller: Viewer,
) -> None:
    kind = "snapshot"
    while not _is_over(caller, here):
        changes = watch.look()
        values = list(_chosen(changes.values, *wanted))
        for message in _messages(kind, values, changes):
            await socket.send_json(message)
        kind = "changes"
        await asyncio.sleep(PACE_S)
        try:
            async with asyncio.timeout(LOOK_S):
                await watch.stirred()
        except TimeoutError:
            pass
    await socket.close(SESSION_OVER, "the session is over: sign in again")


def _is_over(caller: Viewer, here: Here) -> bool:
    session = caller.session
    return session is not None and session.is_over(here.parts.clock.monotonic_s())


def _chosen(values: Sequence[LiveValue], device: str, keys: frozenset[str]) -> Iterator[LiveValue]:
    for one in values:
        if device in {"", one.device} and (not keys or one.key in keys):
            yield one


def _messages(kind: str, values: list[LiveValue], changes: Changes) -> Iterator[dict[str, Any]]:
    if not values and kind == "changes":
        return
    for at in range(0, max(1, len(values)), IN_A_MESSAGE):
        told = [
            {"device": one.device, "key": one.key, "unit": one.unit}
            | reading(one).model_dump(mode="json")
            for one in values[at : at + IN_A_MESSAGE]
        ]
        yield {"type": kind, "values": told, "lagged": changes.lagged}
