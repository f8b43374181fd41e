"""The MQTT driver: a persistent session whose messages are acknowledged when they are committed."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from protocols.driver import Delivery, DriverType, PointSource
from protocols.mqtt.codec import Arrival, Feed, Rows, decode, refuse
from protocols.mqtt.connection import Connection, Message
from protocols.mqtt.options import MAX_IN_FLIGHT, MqttDevice, MqttPoint
from protocols.mqtt.path import parse
from protocols.mqtt.window import Repeats, Verdict, Window, digest_of, token_of
from protocols.mqtt.wire import Received, VersionRefused
from shared.clock import Clock, SystemClock
from shared.columns import Columns
from shared.errors import LinkLost
from shared.quality import Reason, bad

TOKENS_KEPT: Final = 20 * MAX_IN_FLIGHT


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """Which points each topic feeds, and the last reading of each point."""

    feeds: dict[str, list[Feed]]
    observed_at: NDArray[np.int64]
    value: NDArray[np.float64]
    quality: NDArray[np.uint16]
    texts: dict[int, str]

    def keep(self, columns: Columns) -> None:
        """Keep each point's last reading."""
        for series in columns.series.tolist() if self.texts else ():
            self.texts.pop(series, None)
        self.observed_at[columns.series] = columns.observed_at
        self.value[columns.series] = columns.value
        self.quality[columns.series] = columns.quality
        for row, text in columns.texts.items():
            self.texts[int(columns.series[row])] = text


class MqttDriver:
    """One connection to a broker, with a session that the broker keeps while we are away.

    Every message is QoS 1 and is acknowledged by `Delivery.done`, never before. A message whose
    acknowledgement was lost comes again with the DUP flag; it is recognised by its token (packet
    id, CRC of topic and payload) among `known`, acknowledged and not yielded. So is a message that
    tells its own time and says what an earlier one said, whoever sent it again.

    **What `known` must hold**: the tokens of the last `tokens_kept` messages that were committed,
    *including* all that an earlier driver object of this device yielded. One object is one
    connection, so a caller that opens a new one first commits (or forgets) what the old one
    yielded; else a message that was yielded but not yet committed would be yielded twice.
    """

    def __init__(self, options: MqttDevice, clock: Clock | None = None) -> None:
        self._options = options
        self._clock = clock or SystemClock()
        self._connection: Connection | None = None
        self._window = Window()
        self._repeats = Repeats(TOKENS_KEPT)

    async def __aenter__(self) -> Self:
        """Connect; raises `LinkLost` or `Refused`. Version 5 falls back to 3.1.1 once."""
        if self._options.version == "5":
            try:
                self._connection = await self._open("5")
            except VersionRefused:
                self._connection = await self._open("3.1.1")
        else:
            self._connection = await self._open("3.1.1")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Send the acknowledgements that were given, and disconnect. The session stays."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    def plan(self, points: Sequence[PointSource]) -> Plan:
        """Sort the points by topic."""
        feeds: dict[str, list[Feed]] = {}
        for series, source in enumerate(points):
            options = MqttPoint.model_validate(source.options)
            time_steps = None if options.time_path is None else parse(options.time_path)
            feed = Feed(
                series, source.point.type, parse(options.path), time_steps, options.time_unit
            )
            feeds.setdefault(options.topic, []).append(feed)
        count = len(points)
        return Plan(
            feeds,
            np.zeros(count, np.int64),
            np.full(count, np.nan),
            np.full(count, bad(Reason.NOT_YET_REPORTED), np.uint16),
            {},
        )

    async def read(self, plan: Plan) -> Columns:
        """Give the last reading of every point; MQTT cannot ask for one.

        A point that no message of this subscription told is bad with `NOT_YET_REPORTED`.
        """
        self._connected().raise_if_lost()
        at = np.where(plan.observed_at > 0, plan.observed_at, self._clock.now_us())
        series = np.arange(len(plan.value), dtype=np.int32)
        return Columns(series, at, plan.value.copy(), plan.quality.copy(), dict(plan.texts))

    async def subscribe(self, plan: Plan, known: Sequence[bytes]) -> AsyncIterator[Delivery]:
        """Yield the messages that came, several in one delivery, until the link is lost.

        Topics that the broker refuses come as bad readings with `ACCESS_DENIED`. Messages that feed
        no point (of an older configuration) and partial updates that tell nothing are acknowledged
        at once.
        """
        connection = self._connected()
        if connection.is_session_present:  # a new session has nothing to deliver again
            self._window.remember(known)
        self._repeats.remember(known)
        connection.subscribe(list(plan.feeds))
        while True:
            messages = await connection.receive()
            delivery = self._delivery(connection, plan, messages)
            if delivery is not None:
                plan.keep(delivery.columns)
                yield delivery

    async def _open(self, version: str) -> Connection:
        connection = Connection(self._options, version, self._clock)
        await connection.open()
        return connection

    def _connected(self) -> Connection:
        if self._connection is None:
            msg = f"{self._options.host}:{self._options.port}: not connected"
            raise LinkLost(msg)
        return self._connection

    def _delivery(
        self, connection: Connection, plan: Plan, messages: Sequence[Message]
    ) -> Delivery | None:
        rows = Rows()
        for topic in connection.refused_topics():
            denied = Arrival(self._clock.now_us())
            refuse(plan.feeds.get(topic, ()), denied, Reason.ACCESS_DENIED, rows)
        yielded: list[tuple[int, bytes]] = []
        tokens: list[bytes] = []
        settled: list[int] = []
        for message in messages:
            content = message.content
            if not content.packet_id:
                self._decode(connection, plan, message, rows)
                continue
            token = token_of(content.packet_id, content.topic, content.payload)
            verdict, untimed = self._judge(content, token), rows.untimed
            if verdict is Verdict.NEW and self._decode(connection, plan, message, rows):
                yielded.append((content.packet_id, token))
                has_time = rows.untimed == untimed
                tokens.append(token + self._note(content) if has_time else token)
            elif verdict is not Verdict.WAITING:
                self._window.commit(content.packet_id, token)
                settled.append(content.packet_id)
        if settled:
            connection.acknowledge(settled)
        if not rows.series:
            return None
        return Delivery(rows.columns(), tuple(tokens), self._done(connection, yielded))

    def _judge(self, content: Received, token: bytes) -> Verdict:
        is_repeat = digest_of(content.topic, content.payload) in self._repeats
        is_dup = content.is_dup or is_repeat
        verdict = self._window.judge(content.packet_id, token, is_dup=is_dup)
        # The first one waits for its own acknowledgement, so this one may have its at once.
        return Verdict.COMMITTED if verdict is Verdict.NEW and is_repeat else verdict

    def _note(self, content: Received) -> bytes:
        digest = digest_of(content.topic, content.payload)
        self._repeats.note(digest)
        return digest

    def _decode(self, connection: Connection, plan: Plan, message: Message, rows: Rows) -> bool:
        """Append what a message says; tells whether it said anything."""
        content = message.content
        feeds = plan.feeds.get(content.topic)
        if feeds is None:
            if content.topic:
                connection.unsubscribe(content.topic)
            return False
        arrival = Arrival(message.at_us, content.is_retained)
        before = len(rows.series)
        if len(content.payload) > self._options.max_payload_bytes:
            refuse(feeds, arrival, Reason.TOO_LONG, rows)
        else:
            decode(feeds, content.payload, arrival, rows)
        return len(rows.series) > before

    def _done(
        self, connection: Connection, yielded: Sequence[tuple[int, bytes]]
    ) -> Callable[[], None]:
        loop, thread = asyncio.get_running_loop(), threading.get_ident()

        def settle() -> None:
            mine = [which for which, token in yielded if self._window.commit(which, token)]
            connection.acknowledge(mine)

        def done() -> None:
            if threading.get_ident() == thread:
                settle()
            elif not loop.is_closed():
                loop.call_soon_threadsafe(settle)

        return done


def driver_type() -> DriverType:
    """Describe the driver to the registry."""
    return DriverType(
        "mqtt", MqttDevice, MqttPoint, MqttDriver, pushes=True, tokens_kept=TOKENS_KEPT
    )
