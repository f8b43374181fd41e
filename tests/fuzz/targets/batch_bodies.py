"""Sealed readings: `BatchInvalid` or columns; the payload is damaged inside its checksum too."""

import struct
import zlib
from pathlib import Path

import zstandard

from shared.batch import decode, encode
from shared.batch.layout import seal
from shared.columns import Columns
from shared.errors import BatchInvalid

_COUNT = struct.Struct("<H")


def _payloads() -> list[bytes]:
    columns = (
        Columns.of([0, 0, 1, 1], [1, 2, 1, 2], [1.5, 2.5, 3.0, float("nan")], [0, 0, 0, 8198]),
        Columns.of([0, 2, 2], [10**15, 10**15 + 1, 10**15 + 9], [0.1, 0.2, 1e300], [0, 0, 0]),
        Columns.of([0], [5], [float("nan")], [0], {0: "text"}),
    )
    bodies = [encode(one) for one in columns]
    return [
        _COUNT.pack(len(one)) + zstandard.ZstdDecompressor().decompress(body[24:])
        for one, body in zip(columns, bodies, strict=True)
    ]


SEEDS = (
    *(path.read_bytes() for path in sorted(Path("tests/data/batch").iterdir()) if path.is_file()),
    *_payloads(),
)


def one(data: bytes) -> None:
    _try(data)
    if len(data) > _COUNT.size:
        # Inside a sound envelope: else hardly any damage gets past the checksum.
        _try(seal(data[_COUNT.size :], _COUNT.unpack_from(data)[0], 1))


def _try(body: bytes) -> None:
    try:
        columns = decode(body, 1 << 20, 10_000)
    except BatchInvalid:
        return
    assert len(columns) <= 10_000
    zlib.crc32(columns.value.tobytes())
