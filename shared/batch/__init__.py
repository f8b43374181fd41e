"""Sealed batch bodies: readings and rollups as compressed columns, events as compressed maps.

Specified in docs/reference/batch.md; golden files lie in tests/data/batch/.
"""

from shared.batch.decoder import decode
from shared.batch.encoder import encode
from shared.batch.events import decode_events, encode_events
from shared.batch.layout import MAX_DECOMPRESSED_BYTES, MAX_READINGS
from shared.batch.rollups import decode_rollups, encode_rollups

__all__ = [
    "MAX_DECOMPRESSED_BYTES",
    "MAX_READINGS",
    "decode",
    "decode_events",
    "decode_rollups",
    "encode",
    "encode_events",
    "encode_rollups",
]
