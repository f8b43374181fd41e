"""The brokers of one Kafka: who leads which topic, and questions to whoever can answer them."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Final, TypeVar

from central.messaging.kafka_requests import Answer, Cluster, NotNow, Question, Topic, describe
from central.messaging.kafka_wire import Address, Line
from central.messaging.log import LogAway, TopicUnknown
from shared.backoff import Backoff
from shared.errors import SettingsError

PATIENCE_S: Final = 10.0
"""How long a call goes on asking while brokers change places."""

Result = TypeVar("Result")


class Use(Enum):
    """What a connection is for, and how many of them a broker gets: readers wait on theirs."""

    ASKING = 8
    READING = 1_024


@dataclass(frozen=True, slots=True)
class KafkaPlace:
    """Where Kafka is: `host:port,host:port`, PEM files for TLS, and the copies of a new topic.

    `ca` has the roots that brokers are checked against, `identity` our key and certificate.
    """

    bootstrap: str
    ca: Path | None = None
    identity: Path | None = None
    replicas: int = 1

    def addresses(self) -> tuple[Address, ...]:
        """Give the brokers to begin with; raises `SettingsError`."""
        return tuple(self._address(part.strip()) for part in self.bootstrap.split(","))

    def at(self, host: str, port: int) -> Address:
        """Give the address of a broker we were told of."""
        return Address(host, port, self.ca, self.identity)

    def _address(self, text: str) -> Address:
        host, _, port = text.rpartition(":")
        if not host or not port.isdigit() or not 0 < int(port) < 2**16:
            raise SettingsError("Kafka", [f"{text!r} is not host:port, as in kafka1:9092"])
        return self.at(host.strip("[]"), int(port))


class Brokers:
    """All brokers of a place; making it opens no connection.

    What topics are is asked of one broker for as long as it answers: what it tells never goes back
    to an earlier state.
    """

    def __init__(self, place: KafkaPlace) -> None:
        self._place = place
        self._first = place.addresses()
        self._told_by: Address | None = None
        self._known: dict[int, Address] = {}
        self._lines: dict[tuple[Address, Use], Line] = {}
        self._topics: dict[str, Topic] = {}

    async def ask(self, question: Question[Answer]) -> Answer:
        """Ask any broker; raises `LogAway` with every broker's reason where none answers."""
        problems: list[str] = []
        for address in self._nearest():
            try:
                answer = await self._line(address, Use.ASKING).ask(question)
            except NotNow as error:
                problems.append(str(error))
                continue
            self._told_by = address
            return answer
        raise LogAway("; ".join(dict.fromkeys(problems)))

    async def look_up(self, topic: str) -> Topic:
        """Ask what a topic is now; raises `TopicUnknown`."""
        try:
            cluster = await self.ask(describe(topic))
        except TopicUnknown:
            self._topics.pop(topic, None)
            raise
        self._note(cluster)
        return cluster.topic

    async def ask_leader(
        self,
        topic: Topic,
        partition: int,
        question: Question[Answer],
        use: Use = Use.ASKING,
        wait_s: float = 0.0,
    ) -> Answer:
        """Ask the broker that leads a partition; raises `NotNow` where there is none."""
        leader = self._known.get(topic.leader(partition).broker)
        if leader is None:
            raise NotNow(f"no Kafka broker leads partition {partition} of topic {topic.name} now")
        return await self._line(leader, use).ask(question, wait_s)

    async def insist(
        self, topic: str, work: Callable[[Topic], Awaitable[Result]], wait_s: float = 0.0
    ) -> Result:
        """Do work on a topic, again with what it is then while it answers `NotNow`.

        Gives up with `LogAway` after 10 s and what the work may wait, at once with `TopicUnknown`,
        and at once where no broker answers.
        """
        last = NotNow("it was not asked yet")
        pauses_s = _pauses_s()
        try:
            async with asyncio.timeout(PATIENCE_S + wait_s):
                found = self._topics.get(topic) or await self.look_up(topic)
                while True:
                    try:
                        return await work(found)
                    except NotNow as error:
                        last = error
                    await asyncio.sleep(next(pauses_s))
                    found = await self.look_up(topic)
        except TimeoutError as error:
            raise LogAway(f"topic {topic}: given up after {PATIENCE_S:g} s: {last}") from error

    def last_seen(self, topic: str) -> Topic | None:
        """Tell what a topic was when it was last looked up."""
        return self._topics.get(topic)

    def used(self, use: Use) -> int:
        """Tell how many questions of a use are under way."""
        return sum(line.used for (_, each), line in self._lines.items() if each is use)

    async def close(self) -> None:
        """Close all idle connections."""
        for line in self._lines.values():
            await line.close()

    def _nearest(self) -> Iterator[Address]:
        if self._told_by is not None:
            # Asked again at the end: its connection may have died unnoticed.
            yield self._told_by
        yield from dict.fromkeys([*self._known.values(), *self._first])

    def _note(self, cluster: Cluster) -> None:
        self._known = {
            number: self._place.at(host, port) for number, (host, port) in cluster.brokers.items()
        }
        self._topics[cluster.topic.name] = cluster.topic

    def _line(self, address: Address, use: Use) -> Line:
        if (address, use) not in self._lines:
            self._lines[address, use] = Line(address, use.value)
        return self._lines[address, use]


@contextmanager
def patience() -> Iterator[None]:
    """Turn the end of patience into `LogAway`."""
    try:
        yield
    except TimeoutError as error:
        raise LogAway(f"Kafka did not get there in {PATIENCE_S:g} s") from error


def _pauses_s() -> Iterator[float]:
    """Wait not at all before the first repetition: what we knew of the topic was old."""
    yield 0.0
    backoff = Backoff(base_s=0.05, cap_s=0.5, floor_s=0.02)
    while True:
        yield backoff.next_s()
