"""One session with a broker: what came and was not acknowledged is bounded, and nothing is lost."""

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Self

from protocols.mqtt.broker import MqttBroker
from protocols.mqtt.publication import Publication
from protocols.mqtt.wire import Listener, Received, Session, VersionRefused, Wire
from shared.clock import Clock
from shared.errors import LinkLost, OptionsWrong, Refused

_TOPICS_A_REQUEST: Final = 200


@dataclass(frozen=True, slots=True)
class Message:
    """A message, and when it came."""

    content: Received
    at_us: int


class Connection:
    """Receives and acknowledges; stops reading the network while the window is full."""

    def __init__(self, broker: MqttBroker, session: Session, version: str, clock: Clock) -> None:
        self.version = version
        self._timeout_s = broker.timeout_s
        self._window = session.max_in_flight
        self._clock = clock
        listener = Listener(
            self._on_message, self._on_subscribed, self._on_published, self._lose, self._on_tick
        )
        self._wire = Wire(broker, session, version, listener)
        self._inbox: deque[Message] = deque(maxlen=self._window)  # see _regulate
        self._unacknowledged: set[int] = set()
        self._changed = asyncio.Event()
        self._lost: LinkLost | None = None
        self._asked: dict[int, tuple[float, Sequence[str]]] = {}
        self._refused: set[str] = set()
        self._publishing: dict[int, asyncio.Future[str]] = {}
        self._turns = asyncio.Semaphore(0)

    @classmethod
    async def opened(cls, broker: MqttBroker, session: Session, clock: Clock) -> Self:
        """Connect; raises `LinkLost`, `Refused` or `OptionsWrong`.

        Version 5 falls back to 3.1.1 once, also where a broker says nothing to it.
        """
        if broker.version == "5":
            connection = cls(broker, session, "5", clock)
            try:
                await connection.open()
            except VersionRefused:
                pass  # tried anew below
            else:
                return connection
        connection = cls(broker, session, "3.1.1", clock)
        await connection.open()
        return connection

    async def open(self) -> None:
        """Connect and log in within the timeout; raises `LinkLost` or `Refused`."""
        await self._wire.connect()
        self._turns = asyncio.Semaphore(self._wire.receive_maximum)

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
        deadline_s = self._clock.monotonic_s() + self._timeout_s
        for start in range(0, len(topics), _TOPICS_A_REQUEST):
            part = topics[start : start + _TOPICS_A_REQUEST]
            self._asked[self._wire.subscribe(part)] = deadline_s, part

    def unsubscribe(self, topics: Sequence[str]) -> None:
        """Ask for no more messages of topics; the answers are not awaited."""
        for start in range(0, len(topics), _TOPICS_A_REQUEST):
            self._wire.unsubscribe(topics[start : start + _TOPICS_A_REQUEST])

    async def publish(self, message: Publication) -> None:
        """Publish with QoS 1 and wait for the acknowledgement, within the timeout.

        No more wait at once than the broker takes (Receive Maximum): what is beyond waits its turn
        here. Raises `Refused` if the broker says no (version 5 alone can), `LinkLost` if nobody can
        say whether it has the message.
        """
        self.raise_if_lost()
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._turns.acquire()
                reason = await self._sent(message)
        except TimeoutError as error:
            limit_s = self._timeout_s
            msg = f"{self._wire.where}: {message.topic} was not acknowledged within {limit_s:g} s"
            raise LinkLost(msg) from error
        if reason:
            msg = f"{self._wire.where}: the broker refuses {message.topic}: {reason}"
            raise Refused(msg)

    def tell(self, message: Publication) -> None:
        """Publish with QoS 0, for what is said again if nobody heard it; raises `LinkLost`."""
        self.raise_if_lost()
        self._wire.publish(message, 0)

    async def _sent(self, message: Publication) -> str:
        self.raise_if_lost()
        try:
            packet_id = self._wire.publish(message)
        except ValueError as error:
            self._turns.release()
            msg = f"{message.topic!r} cannot be published: {error}"
            raise OptionsWrong(msg) from error
        answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._publishing[packet_id] = answer
        return await answer

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
        self._wire.set_reading(held < self._window)

    def _on_message(self, received: Received) -> None:
        self._inbox.append(Message(received, self._clock.now_us()))
        self._regulate()
        self._changed.set()

    def _on_subscribed(self, request_id: int, granted: list[bool]) -> None:
        _deadline_s, topics = self._asked.pop(request_id, (0.0, ()))
        self._refused |= {topic for topic, good in zip(topics, granted, strict=False) if not good}
        self._changed.set()

    def _on_published(self, packet_id: int, reason: str) -> None:
        answer = self._publishing.pop(packet_id, None)
        if answer is None:
            return  # QoS 0: it took no turn
        # The broker has room again only now, whether or not somebody still waits.
        self._turns.release()
        if not answer.done():
            answer.set_result(reason)

    def _on_tick(self) -> None:
        # A full window holds the answer up behind messages: then it is not late.
        now_s = self._clock.monotonic_s()
        deadlines = [deadline_s for deadline_s, _ in self._asked.values()]
        if self._wire.is_reading and any(now_s > deadline_s for deadline_s in deadlines):
            limit_s = self._timeout_s
            msg = f"{self._wire.where}: no answer to a subscription within {limit_s:g} s"
            self._lose(LinkLost(msg))

    def _lose(self, error: LinkLost) -> None:
        if self._lost is None:
            self._lost = error
        for answer in self._publishing.values():
            if not answer.done():
                answer.set_exception(error)
        self._publishing.clear()
        self._changed.set()
