"""Which messages wait for their acknowledgement, and which redelivery is already on the disk."""

import struct
import zlib
from collections.abc import Iterable
from enum import Enum
from typing import Final

_TOKEN: Final = struct.Struct(">HI")


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
            if len(token) == _TOKEN.size:
                self._committed[_TOKEN.unpack(token)[0]] = token

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
