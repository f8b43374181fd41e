"""Sealed events: `BatchInvalid` or a list of maps."""

import msgpack
import zstandard

from shared.batch import decode_events, encode_events
from shared.errors import BatchInvalid

_GAP = {
    "type": "gap",
    "series": [[0, 3]],
    "from": 1,
    "to": 2,
    "count": 4,
    "reason": "device_down",
}
SEEDS = (encode_events([_GAP]), msgpack.packb([_GAP]))


def one(data: bytes) -> None:
    for body in (data, zstandard.ZstdCompressor(level=1).compress(data)):
        try:
            events = decode_events(body)
        except BatchInvalid:
            continue
        assert all(isinstance(event, dict) for event in events)
