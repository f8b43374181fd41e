"""Sealed batch bodies: readings as compressed columns, events as compressed maps.

Specified in docs/reference/batch.md; golden files lie in tests/data/batch/.
"""

from shared.batch.decoder import decode
from shared.batch.encoder import encode
from shared.batch.events import decode_events, encode_events
from shared.batch.layout import MAX_DECOMPRESSED_BYTES, MAX_READINGS

__all__ = [
    "MAX_DECOMPRESSED_BYTES",
    "MAX_READINGS",
    "decode",
    "decode_events",
    "encode",
    "encode_events",
]
