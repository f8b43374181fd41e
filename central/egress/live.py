"""Live values over a WebSocket: a snapshot, then deltas with sequence numbers.

Frames are JSON texts from central: `snapshot` (all selected readings), `delta` (those that changed)
and `lagged` (`dropped` deltas were not sent; a snapshot follows). `sequence` counts the frames of
a connection from 0, so a client sees that none is missing.
"""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query
from starlette.websockets import WebSocket, WebSocketDisconnect

from central.access import Caller, Doorkeeper, ProjectCaller, ProjectSlug
from central.egress.catalogue import MAX_KEYS
from central.egress.feed import Client, Delta, LatestFeed, Watched
from central.egress.metrics import EgressMetrics
from central.problems import ApiProblem
from central.storage.database import DatabaseAway
from shared.model import KEY_LENGTH

RECHECK_S: Final = 3.0
SIGNED_OUT: Final = 4401
TRY_LATER: Final = 1013


class _SignedOut(Exception):
    """The key or session ended while its connection lived."""


@dataclass
class _Watcher:
    """One connection: what it selected, and the frames it was sent."""

    websocket: WebSocket
    keys: frozenset[str]
    prefix: str
    metrics: EgressMetrics
    sequence: int = field(default=0)

    def pick(self, readings: Sequence[dict[str, Any]]) -> Delta:
        """Choose the readings this connection asked for."""
        return [
            each
            for each in readings
            if (not self.keys or each["key"] in self.keys) and each["key"].startswith(self.prefix)
        ]

    async def send(self, kind: str, **content: Any) -> None:
        """Send one frame under the next sequence number."""
        frame = {"type": kind, "sequence": self.sequence, **content}
        self.sequence += 1
        await self.websocket.send_text(json.dumps(frame, separators=(",", ":")))

    async def feed(self, watched: Watched, client: Client) -> None:
        """Send the snapshot, then what changes, until the connection ends."""
        await self._send_readings("snapshot", watched.snapshot())
        while True:
            delta, dropped = await client.next()
            if dropped:
                self.metrics.dropped_deltas.inc(dropped)
                await self.send("lagged", dropped=dropped)
                await self._send_readings("snapshot", watched.snapshot())
            else:
                await self._send_readings("delta", delta)

    async def _send_readings(self, kind: str, readings: Delta) -> None:
        picked = self.pick(readings)
        if picked or kind == "snapshot":
            await self.send(kind, readings=picked)
            self.metrics.readings.labels("live").inc(len(picked))

    async def until_gone(self) -> None:
        """Read, and ignore, until the client goes."""
        while True:
            message = await self.websocket.receive()
            if message["type"] == "websocket.disconnect":
                raise WebSocketDisconnect(message.get("code", 1005))

    async def recheck(self, doorkeeper: Doorkeeper, caller: Caller) -> None:
        """Ask every few seconds whether the caller may still see the project."""
        while True:
            await asyncio.sleep(RECHECK_S)
            try:
                now = await doorkeeper.caller(self.websocket)
            except DatabaseAway:
                continue
            if now is None or now.project_id != caller.project_id:
                raise _SignedOut


def routes(feed: LatestFeed, most_clients: int, metrics: EgressMetrics) -> APIRouter:
    """Make the route of live values."""
    router = APIRouter(prefix="/api/v1/projects/{project}", tags=["readings"])

    @router.websocket("/live")
    async def live(
        websocket: WebSocket,
        project: ProjectSlug,
        caller: ProjectCaller,
        # FastAPI copies the default.
        keys: Annotated[list[str], Query(alias="key", max_length=MAX_KEYS)] = [],  # noqa: B006 - see above
        prefix: Annotated[str, Query(max_length=KEY_LENGTH)] = "",
    ) -> None:
        """Send the latest values of the selected points as they change."""
        if feed.count(caller.project_id) >= most_clients:
            detail = f"{most_clients} live connections of this project are open. Close one."
            raise ApiProblem(429, "too_many_live", detail, {"Retry-After": "10"})
        await websocket.accept()
        watcher = _Watcher(websocket, frozenset(keys), prefix, metrics)
        try:
            async with feed.watch(caller.project_id, project) as (watched, client):
                with metrics.live_clients.track_inprogress():
                    await _serve(watcher, watched, client, caller)
        except DatabaseAway:
            await websocket.close(TRY_LATER, "the database is away")

    return router


async def _serve(watcher: _Watcher, watched: Watched, client: Client, caller: Caller) -> None:
    doorkeeper: Doorkeeper = watcher.websocket.app.state.doorkeeper
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(watcher.until_gone())
            group.create_task(watcher.recheck(doorkeeper, caller))
            group.create_task(watcher.feed(watched, client))
    except* WebSocketDisconnect:
        pass
    except* _SignedOut:
        await watcher.websocket.close(SIGNED_OUT, "signed out")
