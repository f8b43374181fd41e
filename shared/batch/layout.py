"""The envelope of a readings body, and the integer column all its sections are made of.

Numbers here are those of docs/reference/batch.md.
"""

import struct
import threading
import zlib
from typing import Final, NamedTuple

import numpy as np
import zstandard
from numpy.typing import NDArray

from shared.errors import BatchInvalid

MAGIC: Final = b"SPNB"
VERSION: Final = 1
KIND_READINGS: Final = 1
KIND_ROLLUPS: Final = 2
MAX_DECOMPRESSED_BYTES: Final = 64 * 1024 * 1024
MAX_READINGS: Final = 1_000_000

STATE_NO_VALUE: Final = 1 << 16
STATE_TEXT: Final = 1 << 17
STATE_LIMIT: Final = 1 << 18

_HEADER: Final = struct.Struct("<4sBBHIII")
_CRC: Final = struct.Struct("<I")
_ENVELOPE: Final = _HEADER.size + _CRC.size
_COUNTS: Final = struct.Struct("<IIIIiqQ")

Unsigned = NDArray[np.uint64]
UINT64: Final = np.dtype("<u8")
_LIMITS: Final = np.array([1 << 8 * width for width in range(8)], UINT64)


class Counts(NamedTuple):
    """The fixed start of the payload: lengths of its sections, bases of series and time."""

    series: int
    groups: int
    runs: int
    texts: int
    first_series: int
    first_us: int
    unit_us: int

    def pack(self) -> bytes:
        """Write the counts."""
        return _COUNTS.pack(*self)


def seal(payload: bytes, count: int, level: int, kind: int = KIND_READINGS) -> bytes:
    """Compress a payload and put the envelope around it."""
    if len(payload) > MAX_DECOMPRESSED_BYTES or count > MAX_READINGS:
        msg = (
            f"{count} rows of {len(payload)} bytes; a batch carries at most {MAX_READINGS} "
            f"of {MAX_DECOMPRESSED_BYTES} bytes"
        )
        raise ValueError(msg)
    compressed = zstandard.ZstdCompressor(level=level).compress(payload)
    header = _HEADER.pack(MAGIC, VERSION, kind, 0, count, len(payload), len(compressed))
    checksum = zlib.crc32(compressed, zlib.crc32(header))
    return b"".join((header, _CRC.pack(checksum), compressed))


def unseal(
    body: bytes, max_bytes: int, max_rows: int, wanted: int = KIND_READINGS
) -> tuple[bytes, int]:
    """Check the envelope and give the payload and the number of readings or rollups it declares."""
    if not body.startswith(MAGIC):
        raise BatchInvalid("not_a_batch", f"begins with {bytes(body[:4])!r}, not {MAGIC!r}")
    if len(body) > len(MAGIC) and body[len(MAGIC)] != VERSION:
        raise BatchInvalid(
            "unknown_version", f"version {body[len(MAGIC)]}; this side reads {VERSION}"
        )
    if len(body) < _ENVELOPE:
        raise BatchInvalid("truncated", f"{len(body)} bytes; the envelope alone has {_ENVELOPE}")
    _, _, kind, _, count, size, length = _HEADER.unpack_from(body)
    if len(body) != _ENVELOPE + length:
        code = "truncated" if len(body) < _ENVELOPE + length else "not_a_batch"
        raise BatchInvalid(code, f"{len(body)} bytes; the envelope declares {_ENVELOPE + length}")
    (checksum,) = _CRC.unpack_from(body, _HEADER.size)
    if zlib.crc32(body[_ENVELOPE:], zlib.crc32(body[: _HEADER.size])) != checksum:
        raise BatchInvalid("checksum", "the bytes are not those that were sealed")
    if kind != wanted:
        raise BatchInvalid("unknown_kind", f"kind {kind}; {wanted} is read here")
    if count > max_rows:
        raise BatchInvalid("too_large", f"{count} rows; at most {max_rows} are read")
    return decompress(body[_ENVELOPE:], max_bytes, size), count


def decompress(frame: bytes, max_bytes: int, expected: int | None = None) -> bytes:
    """Decompress one zstd frame that declares its size, of at most `max_bytes`.

    Nothing is allocated before the declared size has been checked.
    """
    try:
        size = zstandard.frame_content_size(frame)
        if size < 0 or expected not in (None, size):
            raise BatchInvalid("not_a_batch", f"zstd frame declares {size} bytes, not {expected}")
        if size > max_bytes:
            raise BatchInvalid("too_large", f"{size} bytes decompressed; at most {max_bytes}")
        payload: bytes = _decompressor(max_bytes).decompress(frame, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise BatchInvalid("not_a_batch", f"zstd: {error}") from error
    if len(payload) != size:
        raise BatchInvalid("not_a_batch", f"zstd gave {len(payload)} of {size} bytes")
    return payload


class _PerThread(threading.local):
    """A decompressor for each thread: making one takes longer than a small body."""

    def __init__(self) -> None:
        self.usual = zstandard.ZstdDecompressor(max_window_size=MAX_DECOMPRESSED_BYTES)


_DECOMPRESSORS: Final = _PerThread()


def _decompressor(max_bytes: int) -> zstandard.ZstdDecompressor:
    if max_bytes == MAX_DECOMPRESSED_BYTES:
        return _DECOMPRESSORS.usual
    return zstandard.ZstdDecompressor(max_window_size=max(1024, max_bytes))


def widths_of(numbers: Unsigned) -> NDArray[np.intp]:
    """Tell how many bytes each number needs; 0 for 0."""
    return np.searchsorted(_LIMITS, numbers, side="right")


def planes(numbers: Unsigned, width: int) -> bytes:
    """Write the low `width` bytes of each number, all lowest bytes first, then the next."""
    octets = np.ascontiguousarray(numbers, UINT64).view(np.uint8).reshape(-1, 8)
    return octets[:, :width].T.tobytes()


def column(numbers: Unsigned) -> bytes:
    """Write an integer column: a width byte and that many planes; nothing if it is empty."""
    if not len(numbers):
        return b""
    width = (int(numbers.max()).bit_length() + 7) // 8
    return bytes((width,)) + planes(numbers, width)


def zigzag(signed: NDArray[np.int64]) -> Unsigned:
    """Fold signed numbers so that small ones stay small: 0, -1, 1, -2 → 0, 1, 2, 3."""
    folded: Unsigned = ((signed << 1) ^ (signed >> 63)).view(np.uint64)
    return folded


def unzigzag(folded: Unsigned) -> NDArray[np.int64]:
    """Undo `zigzag`."""
    half = (folded >> np.uint64(1)).view(np.int64)
    signed: NDArray[np.int64] = half ^ -(folded & np.uint64(1)).view(np.int64)
    return signed


class Reader:
    """Reads a payload from its start to its end; every step checks what is left."""

    def __init__(self, payload: bytes) -> None:
        self._payload = payload
        self._at = 0

    def counts(self) -> Counts:
        """Read the fixed start."""
        return Counts(*_COUNTS.unpack(self.take(_COUNTS.size)))

    def take(self, size: int) -> bytes:
        """Read `size` bytes."""
        end = self._at + size
        if end > len(self._payload):
            raise BatchInvalid(
                "truncated", f"payload of {len(self._payload)} bytes ends before byte {end}"
            )
        taken = self._payload[self._at : end]
        self._at = end
        return taken

    def octets(self, size: int) -> NDArray[np.uint8]:
        """Read `size` bytes as numbers."""
        return np.frombuffer(self.take(size), np.uint8)

    def planes(self, size: int, width: int) -> Unsigned:
        """Read `size` numbers of `width` bytes each, plane by plane."""
        return from_planes(self.take(size * width), size, width)

    def packed(self, size: int) -> bytes:
        """Take an integer column of `size` numbers as it is, for `unpack`."""
        if size == 0:
            return b""
        width = self._payload[self._at] if self._at < len(self._payload) else 0
        if width > 8:
            raise BatchInvalid("not_a_batch", f"a column of {width} bytes a number")
        return self.take(1 + size * width)

    def column(self, size: int) -> Unsigned:
        """Read an integer column of `size` numbers."""
        return unpack(self.packed(size), size)

    def end(self) -> None:
        """Refuse bytes that nothing has asked for."""
        if self._at != len(self._payload):
            left = len(self._payload) - self._at
            raise BatchInvalid("not_a_batch", f"{left} bytes after the last section")


def unpack(packed: bytes, size: int) -> Unsigned:
    """Read the numbers of a column that `Reader.packed` took."""
    return from_planes(packed[1:], size, packed[0]) if size else np.zeros(0, UINT64)


def from_planes(taken: bytes, size: int, width: int) -> Unsigned:
    """Undo `planes`."""
    octets = np.frombuffer(taken, np.uint8)
    if width == 1:
        return octets.astype(UINT64)
    wide = np.zeros((size, 8), np.uint8)
    wide[:, :width] = octets.reshape(width, size).T
    numbers: Unsigned = wide.view(UINT64).reshape(size)
    return numbers
