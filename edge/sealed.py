"""A batch as the outbox keeps it: sealed under its name, with the checksum that proves it."""

import zlib
from dataclasses import dataclass, replace
from typing import Any, Final

from shared.model import Kind, PointClass

COLUMNS: Final = "id, epoch, seq, kind, count, t0, t1, crc, point_set, body, tokens, class"

# In a damaged file a value can be of any type: casts keep the reader from failing on it.
AS_READ: Final = ", ".join(
    f"CAST({name} AS {'BLOB' if name in ('kind', 'point_set', 'body', 'tokens') else 'INTEGER'})"
    for name in COLUMNS.split(", ")
)

AS_READ_1: Final = AS_READ.replace("CAST(class AS INTEGER)", "1")
"""The same of a file of format 1, which knew no classes."""

CLASSES: Final = tuple(PointClass)
"""A class by its rank: the lower, the sooner it is lost. A segment holds points of one class."""

_KINDS: Final = {kind.value.encode(): kind for kind in Kind}


_MOST_READINGS: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Draft:
    """A batch before its commit gives it a name. Times are UTC in microseconds."""

    kind: Kind
    count: int
    t0: int
    t1: int
    point_set: bytes
    body: bytes
    klass: PointClass = PointClass.NORMAL

    def named(self, row: "EpochRow", seq: int) -> "Sealed":
        """Give the batch its name: the seq in an epoch, whose base makes the id of it."""
        return Sealed(
            row.base + seq,
            row.epoch,
            seq,
            self.kind,
            self.count,
            self.t0,
            self.t1,
            self.point_set,
            self.body,
            self.klass,
        )


@dataclass(frozen=True, slots=True)
class Sealed:
    """A batch with its name: never changed again, sent byte for byte."""

    id: int
    epoch: int
    seq: int
    kind: Kind
    count: int
    t0: int
    t1: int
    point_set: bytes
    body: bytes
    klass: PointClass = PointClass.NORMAL

    def as_draft(self) -> Draft:
        """Give the batch without its name."""
        return Draft(self.kind, self.count, self.t0, self.t1, self.point_set, self.body, self.klass)


@dataclass(frozen=True, slots=True)
class Found:
    """A segment as it was found in the file, and the tokens that were committed with it.

    Where it is not sound, its bytes are not what was sealed: only its id, epoch and seq can be
    trusted, which follow from where it lies; it has no body, and the rest is a guess.
    """

    segment: Sealed
    tokens: bytes | None
    is_sound: bool


@dataclass(frozen=True, slots=True)
class EpochRow:
    """What became of the readings of one epoch whose segments are gone from the file.

    `settled` counts what was deleted on receipts here; the last three are what central told.
    """

    epoch: int
    base: int
    settled: int = 0
    dropped: int = 0
    delivered: int = 0
    collapsed: int = 0
    quarantined: int = 0


def crc_of(epoch: int, seq: int, draft: Draft | Sealed, tokens: bytes | None) -> int:
    """Check-sum a segment: its name, what is said of it, its bytes and its tokens."""
    head = f"{epoch} {seq} {draft.kind} {draft.count} {draft.t0} {draft.t1}".encode()
    if draft.klass is not PointClass.NORMAL:
        # Format 1 had no classes; what it sealed must still check.
        head += f" {draft.klass}".encode()
    for part in (draft.point_set, draft.body, tokens or b""):
        head += zlib.crc32(part).to_bytes(4, "big")
    return zlib.crc32(head)


def found_of(row: tuple[Any, ...], name: tuple[int, int]) -> Found:
    """Read a row of the file, in the order of its columns, that lies where `name` belongs."""
    id_, epoch, seq, kind_text, count, t0, t1, crc, point_set, body, tokens, rank = row
    kind = _KINDS.get(kind_text or b"")
    sealed = Sealed(
        id_,
        *name,
        kind or Kind.READINGS,
        count or 0,
        t0 or 0,
        t1 or 0,
        point_set or b"",
        body or b"",
        CLASSES[rank] if rank in range(len(CLASSES)) else PointClass.NORMAL,
    )
    if kind and (epoch, seq) == name and crc_of(*name, sealed, tokens) == crc:
        return Found(sealed, tokens, is_sound=True)
    guess = sealed.count if 0 <= sealed.count <= _MOST_READINGS else 0
    return Found(replace(sealed, count=guess, body=b""), None, is_sound=False)
