"""Sealed events: `BatchInvalid` or a list of maps."""

import msgpack
import zstandard

from shared.batch import decode_events, encode_events
from shared.errors import BatchInvalid

_GAP = {
    "event": "gap",
    "id": bytes(16),
    "cause": "device",
    "reason": "device_down",
    "series": [[0, 3]],
    "from_us": 1,
    "to_us": 2,
    "count": 4,
    "missed": None,
    "voided": [{"epoch": 1, "seqs": [[0, 1]]}],
}
SEEDS = (encode_events([_GAP]), msgpack.packb([_GAP]))


def one(data: bytes) -> None:
    for body in (data, zstandard.ZstdCompressor(level=1).compress(data)):
        try:
            events = decode_events(body)
        except BatchInvalid:
            continue
        assert all(isinstance(event, dict) for event in events)
