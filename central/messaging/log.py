"""The log contract: append gives a position; reading from a position gives records in order.

One contract suite (tests/contract/log_suite.py) runs against every implementation. Delivery is at
least once: an append whose answer was lost may be in the log, and be appended again.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from shared.errors import SpineError

PARTITION: Final = 0
"""Every topic has one partition."""


class LogAway(SpineError):
    """The log cannot take or give records now; the caller keeps what it has and tries again."""


class TopicUnknown(LogAway):
    """The topic does not exist (yet); `central.messaging.topics.create_topics` makes it."""


class RecordTooLarge(SpineError):
    """The log never takes a record of this size; trying again is no use."""


class OffsetOutOfRange(SpineError):
    """No record has this offset any more, or yet: the consumer starts at the earliest."""


@dataclass(frozen=True, slots=True)
class Position:
    """The next offset to read (or, from `append`, the offset written) in one life of a topic.

    A consumer stores it in its own transaction. `log_id` names the life of the topic: it changes
    when the topic was wiped or made anew, and then offsets stored before mean nothing.
    """

    log_id: str
    partition: int
    offset: int

    def waiting(self, done: "Position | None") -> int:
        """Count the records up to here that a consumer at `done` has still to read."""
        is_same_life = done is not None and done.log_id == self.log_id
        return max(self.offset - done.offset, 0) if done and is_same_life else self.offset


@dataclass(frozen=True, slots=True)
class Record:
    """One record as the log keeps it."""

    topic: str
    partition: int
    offset: int
    key: bytes
    value: bytes


class Log(Protocol):
    """What every log does; every call raises `LogAway` when the log cannot be reached."""

    async def append(self, topic: str, key: bytes, value: bytes) -> Position:
        """Append one record; it is durable when this returns. Records of one key keep their order.

        Raises `TopicUnknown` for a topic that was not created, `RecordTooLarge` for a record that
        can never be appended.
        """
        ...

    async def read(
        self,
        topic: str,
        partition: int,
        offset: int | None,
        limit_bytes: int,
        wait_s: float,
    ) -> Sequence[Record]:
        """Read records in order from `offset` (None: the earliest), at least one if there is one.

        Stops before the values exceed `limit_bytes` (one record may). Where nothing is there yet,
        waits up to `wait_s` and then answers nothing. Raises `OffsetOutOfRange` for an offset
        below the earliest or above the next.
        """
        ...

    async def log_id(self, topic: str) -> str:
        """Tell the life of a topic; raises `TopicUnknown`."""
        ...

    async def end(self, topic: str, partition: int) -> Position:
        """Tell where the next record will go, for telling how far a consumer is behind.

        Raises `TopicUnknown`.
        """
        ...

    async def create_topic(self, topic: str) -> None:
        """Make a topic with one partition; one that exists is left as it is."""
        ...

    async def delete_topic(self, topic: str) -> None:
        """Remove a topic and its records; one that does not exist is left so."""
        ...

    async def trim(self, topic: str, partition: int, below: int) -> None:
        """Let records with an offset below `below` go: every consumer is past them."""
        ...
