"""Which messages wait for their acknowledgement, and which redelivery is already on the disk."""

import hashlib
import struct
import zlib
from collections.abc import Iterable
from enum import Enum
from typing import Final

_TOKEN: Final = struct.Struct(">HI")
_COUNT: Final = struct.Struct(">IQ")
_DIGEST_BYTES: Final = 8
_TIMED: Final = frozenset({_TOKEN.size + _DIGEST_BYTES, _TOKEN.size + _DIGEST_BYTES + _COUNT.size})
_COUNTED: Final = frozenset({_TOKEN.size + _COUNT.size, *_TIMED} - {_TOKEN.size + _DIGEST_BYTES})
_SIZES: Final = frozenset({_TOKEN.size, *_TIMED, *_COUNTED})


class Verdict(Enum):
    """What is done with a message that came."""

    NEW = "new"
    COMMITTED = "committed"
    """It is on the disk already: acknowledge it, yield it not."""
    WAITING = "waiting"
    """It was yielded and its acknowledgement will follow: yield it not."""


def token_of(packet_id: int, topic: str, payload: bytes) -> bytes:
    """Name a delivery in 6 bytes: its packet id and a CRC over topic and payload."""
    return _TOKEN.pack(packet_id, zlib.crc32(payload, zlib.crc32(topic.encode())))


def digest_of(topic: str, payload: bytes) -> bytes:
    """Name what a message says in 8 bytes."""
    said = topic.encode() + b"\0" + payload  # no topic has a NUL
    return hashlib.blake2b(said, digest_size=_DIGEST_BYTES).digest()


def count_token(topic: str, count: int) -> bytes:
    """Name the number that a topic's counter showed in 12 bytes, as an addition to a token."""
    return _COUNT.pack(zlib.crc32(topic.encode()), count)


class Counts:
    """The last numbers that counters showed, by topic, as committed tokens tell them."""

    def __init__(self, tokens: Iterable[bytes]) -> None:
        """Read tokens, oldest first."""
        counted = (token for token in tokens if len(token) in _COUNTED)
        self._last = dict(_COUNT.unpack(token[-_COUNT.size :]) for token in counted)

    def get(self, topic: str) -> int | None:
        """Give the last number of a topic's counter, if it is known."""
        return self._last.get(zlib.crc32(topic.encode()))


class Repeats:
    """Recognises messages that tell their own time when they are published again.

    A device that has no acknowledgement from its broker publishes again, and the broker hands that
    on as a new message. Who tells its own time says the same only of the same moment. The newest
    `most` are kept.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._known: dict[bytes, None] = {}

    def __contains__(self, digest: bytes) -> bool:
        return digest in self._known

    def __len__(self) -> int:
        """Count what is kept."""
        return len(self._known)

    def remember(self, tokens: Iterable[bytes]) -> None:
        """Take over what was committed earlier, oldest first: tokens that have a digest."""
        for token in tokens:
            if len(token) in _TIMED:
                self.note(token[_TOKEN.size :][:_DIGEST_BYTES])

    def note(self, digest: bytes) -> None:
        """Keep what a message said."""
        self._known[digest] = None
        if len(self._known) > self._most:
            del self._known[next(iter(self._known))]


class Window:
    """Judges messages by packet id, token and DUP flag. One entry a packet id: it cannot grow."""

    def __init__(self) -> None:
        self._waiting: dict[int, bytes] = {}
        self._committed: dict[int, bytes] = {}

    def __len__(self) -> int:
        """Count the messages that wait for their acknowledgement."""
        return len(self._waiting)

    def remember(self, tokens: Iterable[bytes]) -> None:
        """Take over tokens that were committed earlier, oldest first."""
        for token in tokens:
            if len(token) in _SIZES:
                self._committed[_TOKEN.unpack_from(token)[0]] = token[: _TOKEN.size]

    def judge(self, packet_id: int, token: bytes, *, is_dup: bool) -> Verdict:
        """Say what a message is; a new one waits from now on.

        Only a message with the DUP flag can be one that came before: a first delivery that looks
        the same is a new message under a packet id that became free.
        """
        if is_dup and self._waiting.get(packet_id) == token:
            return Verdict.WAITING
        if is_dup and self._committed.get(packet_id) == token:
            return Verdict.COMMITTED
        self._committed.pop(packet_id, None)
        self._waiting[packet_id] = token
        return Verdict.NEW

    def commit(self, packet_id: int, token: bytes) -> bool:
        """Note that a message is on the disk; False if nothing under that id waits."""
        if self._waiting.get(packet_id) != token:
            return False
        del self._waiting[packet_id]
        self._committed[packet_id] = token
        return True
