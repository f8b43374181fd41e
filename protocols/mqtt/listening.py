"""Listening for a while on a connection of one's own: what is said under some filters."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from protocols.mqtt.connection import Connection
from protocols.mqtt.wire import Received
from shared.errors import Refused

MAX_TOPICS: Final = 5_000
MAX_BYTES: Final = 16 * 1024 * 1024


@dataclass(slots=True)
class Heard:
    """The last message of each topic, within bounds."""

    payloads: dict[str, bytes] = field(default_factory=dict)
    size: int = 0

    def take(self, message: Received) -> bool:
        """Keep a message; tells whether that is enough."""
        topic, payload = message.topic, message.payload
        if not topic:
            return False
        self.size += len(payload) - len(self.payloads.get(topic, b""))
        self.payloads[topic] = payload
        return len(self.payloads) >= MAX_TOPICS or self.size >= MAX_BYTES

    def only(self, message: Received) -> bool:
        """Keep a message, which is the only one that is awaited."""
        self.take(message)
        return True


async def listen(
    connection: Connection,
    filters: Sequence[str],
    limit_s: float,
    take: Callable[[Received], bool],
) -> None:
    """Take messages under filters until `take` says that it is enough, or the time is up.

    All are acknowledged at once: never on a connection whose messages somebody waits for. Raises
    `Refused` if the broker grants no filter, `LinkLost`.
    """
    connection.subscribe(filters)
    refused: set[str] = set()
    try:
        async with asyncio.timeout(limit_s):
            is_enough = False
            while not is_enough:
                messages = [one.content for one in await connection.receive()]
                connection.acknowledge([one.packet_id for one in messages if one.packet_id])
                # All are taken, also those behind the one that is enough.
                is_enough = sum(map(take, messages)) > 0
                refused |= connection.refused_topics()
                if refused >= set(filters):
                    raise Refused(f"the broker lets us not listen to {', '.join(sorted(refused))}")
    except TimeoutError:
        pass  # what was heard by now is what there is
    connection.unsubscribe(filters)
