"""A small gateway client, written from `docs/reference/link.md` alone; imports nothing of SPINE's.

It keeps its batches in memory over as many sessions as it takes. Its identity comes from
`plain_enrol`, the bodies of its batches from `plain_batch`.
"""

import asyncio
import hashlib
import random
import secrets
import time
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import msgpack
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus
from websockets.typing import Subprotocol

from tests.servers.plain_enrol import ANSWER_S, Identity, Where

Frame = dict[str, Any]
Name = tuple[int, int]
Point = tuple[str, str, str, str]

RESEND_S = 30.0
MOST_SENT = 64
MOST_FRAME_BYTES = 16 * 2**20
INVALID = 4400
BARRED_S = 30.0
BARRED_CODES = frozenset({403, 4403, 4409})
TOTALS = ("delivered", "collapsed", "quarantined")


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch as it is sent, byte for byte the same each time."""

    epoch: int
    seq: int
    kind: str
    count: int
    point_set: bytes
    body: bytes

    @property
    def name(self) -> Name:
        return self.epoch, self.seq


@dataclass(slots=True)
class Place:
    """Where a kept batch stands in this session: whether in the window, and when it is (re)sent."""

    batch: Batch
    due: float = 0.0
    in_window: bool = False


def hash_of(points: Iterable[Point]) -> bytes:
    return hashlib.sha256(msgpack.packb([list(point) for point in points])).digest()


def ranges_of(seqs: Iterable[int]) -> list[list[int]]:
    """Give ascending ranges, both ends included."""
    ranges: list[list[int]] = []
    for seq in sorted(seqs):
        if ranges and ranges[-1][1] == seq - 1:
            ranges[-1][1] = seq
        else:
            ranges.append([seq, seq])
    return ranges


def names_in(told: Iterable[Frame]) -> Iterable[Name]:
    """Give the batches that `accepted` or `settled` name."""
    return (
        (one["epoch"], seq)
        for one in told
        for first, last in one["seqs"]
        for seq in range(first, last + 1)
    )


@dataclass(frozen=True, slots=True)
class Totals:
    """What central says of the settled batches of an epoch, in readings."""

    delivered: int
    collapsed: int
    quarantined: int


class Gateway:
    """A gateway; what central said stays here to be looked at."""

    def __init__(self, identity: Identity, folder: Path) -> None:
        self.epoch = secrets.randbelow(2**63 - 1) + 1
        self.kept: dict[Name, Place] = {}
        self.point_sets: dict[bytes, list[Point]] = {}
        self.totals: dict[int, Totals] = {}
        self.refused: dict[Name, Frame] = {}
        self.received: deque[Frame] = deque(maxlen=10_000)
        self.identity = identity
        self._folder = folder
        self._next_seq = 0
        self._window_bytes = 0
        self._failures = 0
        self._slow_until = 0.0
        self._changed = asyncio.Event()

    def points(self, points: list[Point]) -> bytes:
        """Learn a point set; give its hash."""
        name = hash_of(points)
        self.point_sets[name] = points
        return name

    def keep(self, kind: str, count: int, point_set: bytes, body: bytes) -> Name:
        """Seal a batch: it is kept and sent until central says settled."""
        batch = Batch(self.epoch, self._next_seq, kind, count, point_set, body)
        self._next_seq += 1
        self.keep_again(Place(batch))
        return batch.name

    def keep_again(self, place: Place) -> None:
        """Keep a batch as if nothing had been said of it."""
        self.kept[place.batch.name] = Place(place.batch)
        self._changed.set()

    async def run(self, where: Where) -> None:
        """Hold a session for ever, waiting between two as the reference says."""
        while True:
            code = None
            try:
                code = await self.session(where)
            except InvalidStatus as refusal:
                code = refusal.response.status_code
            except (OSError, InvalidHandshake, ConnectionClosed):
                pass  # nobody there, or no WebSocket: the wait below is all there is to do
            self._failures += 1
            wait = random.uniform(0, min(30.0, 0.5 * 2 ** min(self._failures, 6)))
            await asyncio.sleep(BARRED_S + wait if code in BARRED_CODES else wait)

    async def session(self, where: Where) -> int | None:
        """Hold one session until it closes; give the close code."""
        url = "wss://{}:{}/link".format(*where)
        async with connect(
            url,
            ssl=self.identity.context(self._folder),
            subprotocols=[Subprotocol("spine.link.1")],
            compression=None,
            max_size=MOST_FRAME_BYTES,
            proxy=None,
            ping_interval=10,
            ping_timeout=20,
        ) as link:
            with suppress(ConnectionClosed):
                await self._greet(link)
                await self._talk(link)
            await link.wait_closed()
        return link.close_code

    async def _greet(self, link: ClientConnection) -> None:
        await send(link, self._hello())
        async with asyncio.timeout(ANSWER_S):
            welcome = opened(await link.recv())
        self.received.append(welcome)
        self._window_bytes = welcome["window_bytes"]
        self._failures = 0
        for place in self.kept.values():
            place.due, place.in_window = 0.0, False
        self._settle(welcome["settled"])

    def _hello(self) -> Frame:
        epochs = {epoch for epoch, _ in self.kept}
        return {
            "type": "hello",
            "version": 1,
            "session": secrets.token_bytes(16),
            "pending": [
                {"epoch": epoch, "seqs": ranges_of(seq for own, seq in self.kept if own == epoch)}
                for epoch in epochs
            ],
            "clock": {"utc_us": time.time_ns() // 1000, "synchronised": True, "boot_id": "plain"},
            "software": "plain client",
            "config_revision": 0,
        }

    async def _talk(self, link: ClientConnection) -> None:
        async with asyncio.TaskGroup() as tasks:
            sender = tasks.create_task(self._send(link))
            await self._receive(link)
            sender.cancel()

    async def _send(self, link: ClientConnection) -> None:
        with suppress(ConnectionClosed):  # the receiver meets it too, and ends the session
            while True:
                await self._send_due(link)

    async def _send_due(self, link: ClientConnection) -> None:
        self._changed.clear()
        while place := self._next():
            place.in_window, place.due = True, now() + resend_s()
            await send(link, {"type": "batch", **asdict(place.batch)})
        later = [self._slow_until, *(place.due for place in self.kept.values())]
        wake = min((moment for moment in later if moment > now()), default=None)
        with suppress(TimeoutError):
            async with asyncio.timeout(None if wake is None else wake - now()):
                await self._changed.wait()

    def _next(self) -> Place | None:
        """Give the newest batch that is due, if the window has room for it."""
        moment = now()
        if moment < self._slow_until:
            return None
        sent = [place for place in self.kept.values() if place.in_window and place.due > moment]
        room = self._window_bytes - sum(len(place.batch.body) for place in sent)
        due = (place for place in reversed(self.kept.values()) if place.due <= moment)
        place = next(due, None)
        if place is None or len(sent) >= MOST_SENT:
            return None
        return place if len(place.batch.body) <= room or not sent else None

    async def _receive(self, link: ClientConnection) -> None:
        with suppress(ConnectionClosed):
            async for message in link:
                await self._answer(link, message)

    async def _answer(self, link: ClientConnection, message: str | bytes) -> None:
        try:
            answer = self._take(opened(message))
        except (KeyError, TypeError, ValueError) as error:
            await link.close(INVALID, f"invalid frame: {error}"[:100])
            return
        self._changed.set()
        if answer:
            await send(link, answer)

    def _take(self, frame: Frame) -> Frame | None:
        """Do what a frame says; give the answer to it."""
        self.received.append(frame)
        match frame["type"]:
            case "receipt":
                for name in names_in(frame["accepted"]):
                    self._leave_window(name)
                self._settle(frame["settled"])
            case "need_point_set":
                points = self.point_sets.get(frame["hash"])
                if points is not None:
                    return {"type": "point_set", "hash": frame["hash"], "points": points}
            case "retry_after":
                self._slow_until = now() + frame["seconds"]
                self._leave_window((frame["epoch"], frame["seq"]), frame["seconds"])
            case "refused":
                self.refused[frame["epoch"], frame["seq"]] = frame["problem"]
                self._leave_window((frame["epoch"], frame["seq"]))
            case "unsupported":
                pass
            case unknown:
                return {"type": "unsupported", "frame": unknown}
        return None

    def _leave_window(self, name: Name, again_s: float | None = None) -> None:
        """Free the window of a batch that was answered; it is sent again unless it settles."""
        if place := self.kept.get(name):
            place.in_window = False
            place.due = now() + (resend_s() if again_s is None else again_s)

    def _settle(self, settled: list[Frame]) -> None:
        for one in settled:
            self.totals[one["epoch"]] = Totals(*(one[key] for key in TOTALS))
        for name in names_in(settled):
            self.kept.pop(name, None)


def now() -> float:
    return time.monotonic()


def resend_s() -> float:
    return RESEND_S + random.uniform(0, RESEND_S)


async def send(link: ClientConnection, frame: Frame) -> None:
    await link.send(msgpack.packb(frame))


def opened(message: str | bytes) -> Frame:
    """Read a frame."""
    if not isinstance(message, bytes):
        raise TypeError("a text message")
    frame = msgpack.unpackb(message)
    if not isinstance(frame, dict):
        raise TypeError("not a map")
    return frame
