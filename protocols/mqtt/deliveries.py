"""Messages become deliveries: each is new, known already, or says nothing of our points."""

import asyncio
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from protocols.driver import Delivery
from protocols.mqtt.codec import Arrival, Rows
from protocols.mqtt.connection import Connection, Message
from protocols.mqtt.filters import generalised
from protocols.mqtt.plan import Plan
from protocols.mqtt.window import (
    Counts,
    Repeats,
    Verdict,
    Window,
    count_token,
    digest_of,
    token_of,
)
from protocols.mqtt.wire import Received
from shared.clock import Clock

_MOST_STRAYS: Final = 100
"""Strange topics of which we sign off one by one; what comes after that is left out in silence."""


@dataclass(slots=True)
class Deliveries:
    """What one subscription yields."""

    connection: Connection
    plan: Plan
    clock: Clock
    window: Window
    repeats: Repeats
    _strays: set[str] = field(default_factory=set)

    def remember(self, known: Sequence[bytes]) -> None:
        """Take over what was committed of earlier connections."""
        if self.connection.is_session_present:  # a new session has nothing to deliver again
            self.window.remember(known)
        self.repeats.remember(known)
        counts = Counts(known)
        for topic, counter in self.plan.counters().items():
            counter.last = counts.get(topic)

    def of(self, messages: Sequence[Message]) -> Delivery | None:
        """Make one delivery of messages; what says nothing is acknowledged at once."""
        rows = Rows()
        denied = self.connection.refused_topics()
        if denied:
            self.plan.deny(denied, Arrival(self.clock.now_us()), rows)
        yielded: list[tuple[int, bytes]] = []
        tokens: list[bytes] = []
        settled: list[int] = []
        for message in messages:
            content = message.content
            if not content.packet_id:
                self._hear(message, rows)
                continue
            token = token_of(content.packet_id, content.topic, content.payload)
            verdict, untimed = self._judge(content, token), rows.untimed
            if verdict is Verdict.NEW and self._hear(message, rows):
                yielded.append((content.packet_id, token))
                tokens.append(token + self._note(content, has_time=rows.untimed == untimed))
            elif verdict is not Verdict.WAITING:
                self.window.commit(content.packet_id, token)
                settled.append(content.packet_id)
        if settled:
            self.connection.acknowledge(settled)
        if not rows.series:
            return None
        return Delivery(rows.columns(), tuple(tokens), self._done(yielded))

    def _judge(self, content: Received, token: bytes) -> Verdict:
        is_repeat = digest_of(content.topic, content.payload) in self.repeats
        is_dup = content.is_dup or is_repeat
        verdict = self.window.judge(content.packet_id, token, is_dup=is_dup)
        # The first one waits for its own acknowledgement, so this one may have its at once.
        return Verdict.COMMITTED if verdict is Verdict.NEW and is_repeat else verdict

    def _note(self, content: Received, *, has_time: bool) -> bytes:
        noted = b""
        if has_time:
            noted = digest_of(content.topic, content.payload)
            self.repeats.note(noted)
        counter = self.plan.counter(content.topic)
        if counter is not None and counter.last is not None:
            noted += count_token(content.topic, counter.last)
        return noted

    def _hear(self, message: Message, rows: Rows) -> bool:
        """Append what a message says; tells whether it said anything."""
        content = message.content
        before = len(rows.series)
        if not self.plan.is_wanted(content.topic):
            self._sign_off(content.topic)
            return False
        arrival = Arrival(message.at_us, content.is_retained)
        self.plan.hear(content.topic, content.payload, arrival, rows)
        return len(rows.series) > before

    def _sign_off(self, topic: str) -> None:
        # Of an older configuration, whose filter nobody knows any more: none of ours covers it, so
        # every filter that does can go.
        if topic and topic not in self._strays and len(self._strays) < _MOST_STRAYS:
            self._strays.add(topic)
            self.connection.unsubscribe(generalised(topic))

    def _done(self, yielded: Sequence[tuple[int, bytes]]) -> Callable[[], None]:
        loop, thread = asyncio.get_running_loop(), threading.get_ident()

        def settle() -> None:
            mine = [which for which, token in yielded if self.window.commit(which, token)]
            self.connection.acknowledge(mine)

        def done() -> None:
            if threading.get_ident() == thread:
                settle()
            elif not loop.is_closed():
                loop.call_soon_threadsafe(settle)

        return done
