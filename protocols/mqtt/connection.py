"""One session with a broker: what came and was not acknowledged is bounded, and nothing is lost."""

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from protocols.mqtt.options import MqttDevice
from protocols.mqtt.wire import Listener, Received, Wire
from shared.clock import Clock
from shared.errors import LinkLost

_TOPICS_A_REQUEST: Final = 200


@dataclass(frozen=True, slots=True)
class Message:
    """A message, and when it came."""

    content: Received
    at_us: int


class Connection:
    """Receives and acknowledges; stops reading the network while the window is full."""

    def __init__(self, options: MqttDevice, version: str, clock: Clock) -> None:
        self._options = options
        self._clock = clock
        self._wire = Wire(
            options,
            version,
            Listener(self._on_message, self._on_subscribed, self._lose, self._on_tick),
        )
        self._inbox: deque[Message] = deque(maxlen=options.max_in_flight)  # see _regulate
        self._unacknowledged: set[int] = set()
        self._changed = asyncio.Event()
        self._lost: LinkLost | None = None
        self._asked: dict[int, tuple[float, Sequence[str]]] = {}
        self._refused: set[str] = set()

    async def open(self) -> None:
        """Connect and log in within the timeout; raises `LinkLost` or `Refused`."""
        await self._wire.connect()

    async def close(self) -> None:
        """Send what is still to be said, disconnect, close; never raises for a lost link."""
        await self._wire.close()
        self._lose(LinkLost(f"{self._wire.where}: not connected"))

    @property
    def is_session_present(self) -> bool:
        """Tell whether the broker kept our session since the last connection."""
        return self._wire.is_session_present

    async def receive(self) -> list[Message]:
        """Wait for messages and take all that came.

        What came before the link was lost is given first; then raises `LinkLost`. Empty when the
        broker refused topics.
        """
        while not (self._inbox or self._lost or self._refused):
            self._changed.clear()
            await self._changed.wait()
        if self._lost is not None and not self._inbox:
            raise self._lost
        messages = list(self._inbox)
        self._inbox.clear()
        self._unacknowledged.update(
            message.content.packet_id for message in messages if message.content.packet_id
        )
        self._regulate()
        return messages

    def refused_topics(self) -> set[str]:
        """Take the topics that the broker refused since this was asked last."""
        refused, self._refused = self._refused, set()
        return refused

    def subscribe(self, topics: Sequence[str]) -> None:
        """Ask for topics; raises `LinkLost`. The answers are awaited while messages flow."""
        deadline_s = self._clock.monotonic_s() + self._options.timeout_s
        for start in range(0, len(topics), _TOPICS_A_REQUEST):
            part = topics[start : start + _TOPICS_A_REQUEST]
            self._asked[self._wire.subscribe(part)] = deadline_s, part

    def unsubscribe(self, topic: str) -> None:
        """Ask for no more messages of a topic."""
        self._wire.unsubscribe(topic)

    def acknowledge(self, packet_ids: Sequence[int]) -> None:
        """Acknowledge messages; quick, never raises, nothing happens if the link is gone."""
        self._unacknowledged.difference_update(packet_ids)
        if self._lost is None:
            for packet_id in packet_ids:
                self._wire.acknowledge(packet_id)
            self._regulate()

    def raise_if_lost(self) -> None:
        """Raise what ended the link, if something did."""
        if self._lost is not None:
            raise self._lost

    def _regulate(self) -> None:
        held = len(self._unacknowledged) + len(self._inbox)
        self._wire.set_reading(held < self._options.max_in_flight)

    def _on_message(self, received: Received) -> None:
        self._inbox.append(Message(received, self._clock.now_us()))
        self._regulate()
        self._changed.set()

    def _on_subscribed(self, request_id: int, granted: list[bool]) -> None:
        _deadline_s, topics = self._asked.pop(request_id, (0.0, ()))
        self._refused |= {topic for topic, good in zip(topics, granted, strict=False) if not good}
        self._changed.set()

    def _on_tick(self) -> None:
        # A full window holds the answer up behind messages: then it is not late.
        now_s = self._clock.monotonic_s()
        deadlines = [deadline_s for deadline_s, _ in self._asked.values()]
        if self._wire.is_reading and any(now_s > deadline_s for deadline_s in deadlines):
            limit_s = self._options.timeout_s
            msg = f"{self._wire.where}: no answer to a subscription within {limit_s:g} s"
            self._lose(LinkLost(msg))

    def _lose(self, error: LinkLost) -> None:
        if self._lost is None:
            self._lost = error
        self._changed.set()
