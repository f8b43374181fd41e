"""The outbox's SQLite file: sealed segments on disk, in one connection, every commit synced.

This module is the only one that knows SQLite. It blocks; `edge.outbox` calls it from a thread.
Source for the settings: SQLite documentation, "PRAGMA synchronous" and "Write-Ahead Logging".
"""

import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, Final, Self, cast

import apsw

from shared.errors import SpineError
from shared.link import Range, Settled
from shared.model import Kind

FORMAT: Final = 1
SAFE_SQLITE: Final = (3, 51, 3)
"""Older SQLite can lose commits when several connections check-point (its 3.51.3 notes)."""

_COLUMNS: Final = "id, epoch, seq, kind, count, t0, t1, crc, point_set, body"


class OutboxError(SpineError):
    """The outbox file cannot be used as asked."""


class OutboxHeld(OutboxError):
    """Another process has the file: the gateway is running."""


class OutboxFull(OutboxError):
    """The disk has no room; nothing was written, and it can be tried again."""


class OutboxBroken(OutboxError):
    """The disk failed to write or sync; the file must be opened afresh before it is trusted."""


class OutboxDamaged(OutboxError):
    """The file is not a sound outbox."""


class SegmentDamaged(OutboxDamaged):
    """One segment's bytes are not what was sealed; the rest of the file may be sound."""

    def __init__(self, segment: "Sealed") -> None:
        """Keep the damaged segment; only its name can be trusted."""
        self.segment = segment
        super().__init__(f"segment {segment.epoch}/{segment.seq} is damaged: wrong checksum")


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


@dataclass(frozen=True, slots=True)
class Draft:
    """A batch before its commit gives it a name. Times are UTC in microseconds."""

    kind: Kind
    count: int
    t0: int
    t1: int
    point_set: bytes
    body: bytes


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


class SegmentFile:
    """The open file. Not safe for two calls at once; its owner takes turns."""

    def __init__(self, path: Path, synchronous: str = "FULL") -> None:
        """Open or create the file.

        `synchronous` is FULL but in the negative control of the power-cut proof. Raises
        `OutboxHeld`, `OutboxDamaged` or `OutboxFull`.
        """
        with _translated():
            self._db = apsw.Connection(str(path))
        try:
            with _translated():
                self._prepare(synchronous)
        except BaseException:
            self._db.close(force=True)
            raise

    def _prepare(self, synchronous: str) -> None:
        # Exclusive locking keeps every other process out, and with it the races of a shared WAL.
        for pragma in (
            "locking_mode=EXCLUSIVE",
            "auto_vacuum=INCREMENTAL",
            "journal_mode=WAL",
            f"synchronous={synchronous}",
            "journal_size_limit=8388608",
        ):
            self._db.execute(f"PRAGMA {pragma}").fetchall()
        version = self._one("PRAGMA user_version")
        if version == 0:
            with self._db:
                self._db.execute(files("edge").joinpath("outbox.sql").read_text("utf-8"))
                self._db.execute(f"PRAGMA user_version={FORMAT}")
        elif version != FORMAT:
            msg = f"outbox format {version}; this gateway reads {FORMAT}: update the gateway"
            raise OutboxDamaged(msg)

    def close(self) -> None:
        """Close the file; what was committed stays."""
        self._db.close(force=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def begin_epoch(self, epoch: int) -> EpochRow:
        """Note a new epoch; its segments get ids above all that ever were in the file."""
        with _translated(), self._db:
            top = self._one(
                "SELECT max(coalesce((SELECT max(id) FROM segments), 0),"
                " coalesce((SELECT max(base) FROM epochs), 0),"
                " coalesce((SELECT upto FROM tail), 0))"
            )
            self._db.execute("INSERT INTO epochs (epoch, base) VALUES (?, ?)", (epoch, top + 1))
        return EpochRow(epoch, top + 1)

    def append(
        self, row: EpochRow, seq: int, drafts: Sequence[Draft], tokens: bytes | None
    ) -> None:
        """Commit drafts as segments `seq`, `seq` + 1, …; they are on disk when this returns."""
        with _translated(), self._db:
            self._insert(row, seq, drafts, tokens)

    def _insert(
        self, row: EpochRow, seq: int, drafts: Sequence[Draft], tokens: bytes | None
    ) -> None:
        for nth, draft in enumerate(drafts, seq):
            self._db.execute(
                f"INSERT INTO segments ({_COLUMNS}, tokens)"  # noqa: S608 - constant column list
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    row.base + nth,
                    row.epoch,
                    nth,
                    draft.kind.value,
                    draft.count,
                    draft.t0,
                    draft.t1,
                    _crc(row.epoch, nth, draft),
                    draft.point_set,
                    draft.body,
                    tokens if nth == seq else None,
                ),
            )

    def settle(
        self,
        told: Sequence[tuple[EpochRow, Settled]],
        upto: int,
        tail_after: Callable[[dict[int, int]], bytes],
    ) -> dict[int, int]:
        """Delete settled segments and write the tail that covers them, in one commit.

        Returns the readings deleted by epoch, of which `tail_after` makes the tail. Every deleted
        id is ≤ `upto`.
        """
        gone: dict[int, int] = {}
        with _translated(), self._db:
            for row, settled in told:
                gone[row.epoch] = sum(self._delete(row.base, seqs) for seqs in settled.seqs)
                self._db.execute(
                    "UPDATE epochs SET settled = settled + ?, delivered = ?, collapsed = ?,"
                    " quarantined = ? WHERE epoch = ?",
                    (
                        gone[row.epoch],
                        settled.delivered,
                        settled.collapsed,
                        settled.quarantined,
                        row.epoch,
                    ),
                )
            self._write_tail(upto, tail_after(gone))
        with _translated():
            self._give_back_space()
        return gone

    def drop(self, row: EpochRow, seqs: Sequence[Range], event: tuple[EpochRow, int, Draft]) -> int:
        """Delete segments and commit the gap event that declares it, in one commit.

        Returns the readings dropped.
        """
        with _translated(), self._db:
            gone = sum(self._delete(row.base, one) for one in seqs)
            self._db.execute(
                "UPDATE epochs SET dropped = dropped + ? WHERE epoch = ?", (gone, row.epoch)
            )
            owner, seq, draft = event
            self._insert(owner, seq, [draft], None)
        return gone

    def _delete(self, base: int, seqs: Range) -> int:
        rows = self._db.execute(
            "DELETE FROM segments WHERE id BETWEEN ? AND ? RETURNING kind, count",
            (base + seqs[0], base + seqs[1]),
        )
        return sum(count for kind, count in rows if kind != Kind.EVENTS)

    def write_tail(self, upto: int, tail: bytes) -> None:
        """Replace the tail."""
        with _translated(), self._db:
            self._write_tail(upto, tail)

    def _write_tail(self, upto: int, tail: bytes) -> None:
        self._db.execute("INSERT OR REPLACE INTO tail VALUES (1, ?, ?)", (upto, tail))

    def tail(self) -> tuple[int, bytes] | None:
        """Give the tail and the id it covers, if one was ever written."""
        with _translated():
            row = self._db.execute("SELECT upto, body FROM tail").fetchone()
        return None if row is None else (int(row[0]), bytes(row[1]))

    def epochs(self) -> list[EpochRow]:
        """List all epochs."""
        with _translated():
            rows = self._db.execute(
                "SELECT epoch, base, settled, dropped, delivered, collapsed, quarantined"
                " FROM epochs"
            ).fetchall()
        return [EpochRow(*cast("tuple[int, int]", row)) for row in rows]

    def after(self, id_: int, below: int, limit: int) -> Iterator[tuple[Sealed, bytes | None]]:
        """Yield sound segments with `id_` < id < `below` and their tokens, at most `limit`.

        Raises `SegmentDamaged` at one whose checksum is wrong.
        """
        with _translated():
            rows = self._db.execute(
                f"SELECT {_COLUMNS}, tokens FROM segments"  # noqa: S608 - constant column list
                " WHERE id > ? AND id < ? ORDER BY id LIMIT ?",
                (id_, below, limit),
            )
            for row in rows:
                yield _sealed(row), row[-1]

    def refuse(self, epoch: int, seq: int, code: str, detail: str, at_us: int) -> None:
        """Note that central refused a batch, and why."""
        with _translated(), self._db:
            self._db.execute(
                "INSERT OR REPLACE INTO refused VALUES (?, ?, ?, ?, ?)",
                (epoch, seq, code, detail, at_us),
            )

    def refusals(self, limit: int) -> list[tuple[int, int, str, str, int]]:
        """List the newest refusals: epoch, seq, code, detail, time."""
        with _translated():
            rows = self._db.execute(
                "SELECT * FROM refused ORDER BY at_us DESC LIMIT ?", (limit,)
            ).fetchall()
        return cast("list[tuple[int, int, str, str, int]]", rows)

    def keep_point_set(self, hash_: bytes, points: bytes) -> None:
        """Keep a point set for as long as the file lives."""
        with _translated(), self._db:
            self._db.execute("INSERT OR IGNORE INTO point_sets VALUES (?, ?)", (hash_, points))

    def point_set(self, hash_: bytes) -> bytes | None:
        """Give a kept point set."""
        with _translated():
            row = self._db.execute(
                "SELECT points FROM point_sets WHERE hash = ?", (hash_,)
            ).fetchone()
        return None if row is None else bytes(row[0])

    def restore(self, statement: str, row: tuple[Any, ...]) -> None:
        """Write a row that was carried over from a damaged file."""
        with _translated(), self._db:
            self._db.execute(statement, row)

    def restore_segment(self, segment: Sealed, row: tuple[Any, ...]) -> None:
        """Write a segment that was carried over, under its old name and id."""
        base = segment.id - segment.seq
        self.restore(
            "INSERT OR IGNORE INTO epochs (epoch, base) VALUES (?, ?)", (segment.epoch, base)
        )
        self.restore(
            f"INSERT OR IGNORE INTO segments ({_COLUMNS}, tokens)"  # noqa: S608 - constant columns
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            row,
        )

    def used_bytes(self) -> int:
        """Tell how much of the file holds something."""
        with _translated():
            pages = self._one("PRAGMA page_count") - self._one("PRAGMA freelist_count")
            return pages * self._one("PRAGMA page_size")

    def _give_back_space(self) -> None:
        # After an outage the file gives its space back, a little at a time so that commits go on.
        if self._one("PRAGMA freelist_count") > 2_048:
            self._db.execute("PRAGMA incremental_vacuum(512)").fetchall()

    def _one(self, query: str) -> int:
        row = self._db.execute(query).fetchone()
        return 0 if row is None else int(row[0])


def carry_over(damaged: Path, file: SegmentFile) -> tuple[int, int | None]:
    """Copy every sound segment and point set of a damaged file into `file`.

    Returns how many segments, and their oldest time. The damaged file is only read.
    """
    try:
        source = apsw.Connection(str(damaged), flags=apsw.SQLITE_OPEN_READWRITE)
    except apsw.Error:
        return 0, None
    with closing(source):
        for name, columns in (("epochs", "?,?,?,?,?,?,?"), ("point_sets", "?,?")):
            for row in _readable(source, f"SELECT * FROM {name}"):  # noqa: S608 - constant names
                file.restore(f"INSERT OR IGNORE INTO {name} VALUES ({columns})", row)  # noqa: S608
        query = f"SELECT {_COLUMNS}, tokens FROM segments ORDER BY id"  # noqa: S608 - constant
        found = {row[0]: row for order in (" DESC", "") for row in _readable(source, query + order)}
    oldest: int | None = None
    for row in found.values():
        with suppress(SegmentDamaged, ValueError, TypeError):
            segment = _sealed(row)
            file.restore_segment(segment, row)
            oldest = segment.t0 if oldest is None else min(oldest, segment.t0)
    return len(found), oldest


def _readable(source: apsw.Connection, query: str) -> Iterator[tuple[Any, ...]]:
    with suppress(apsw.Error):
        yield from source.execute(query)


def _crc(epoch: int, seq: int, draft: Draft | Sealed) -> int:
    head = f"{epoch} {seq} {draft.kind} {draft.count} {draft.t0} {draft.t1}".encode()
    return zlib.crc32(draft.body, zlib.crc32(draft.point_set, zlib.crc32(head)))


def _sealed(row: tuple[Any, ...]) -> Sealed:
    id_, epoch, seq, kind, count, t0, t1, crc, point_set, body = row[:10]
    sealed = Sealed(id_, epoch, seq, Kind(kind), count, t0, t1, bytes(point_set), bytes(body))
    if _crc(epoch, seq, sealed) != crc:
        raise SegmentDamaged(sealed)
    return sealed


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (apsw.CorruptError, apsw.NotADBError, apsw.FormatError) as error:
        raise OutboxDamaged(f"the outbox file is damaged: {error}") from error
    except (apsw.BusyError, apsw.LockedError) as error:
        raise OutboxHeld("the outbox is held by a running gateway: ask it, or stop it") from error
    except apsw.FullError as error:
        raise OutboxFull("the disk is full: free some space; nothing was lost") from error
    except apsw.CantOpenError as error:
        raise OutboxBroken(f"the outbox file cannot be opened: {error}") from error
    except apsw.IOError as error:
        raise OutboxBroken(f"the disk failed: {error}") from error
