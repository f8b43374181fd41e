"""The outbox's SQLite file: sealed segments on disk, in one connection, every commit synced.

This module, with `edge.salvage` for files that are damaged, is the only one that knows SQLite. It
blocks; `edge.outbox` calls it from a thread.
Source for the settings: SQLite documentation, "PRAGMA synchronous" and "Write-Ahead Logging".
"""

from bisect import bisect_right, insort
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import astuple, replace
from hashlib import sha256
from importlib.resources import files
from itertools import islice
from pathlib import Path
from typing import Final, Self, cast

import apsw

from edge.salvage import Salvage
from edge.sealed import AS_READ, COLUMNS, Draft, EpochRow, Found, Sealed, crc_of, found_of
from shared.errors import SpineError
from shared.link import Range, Settled
from shared.model import Kind
from shared.seqs import SeqSet

__all__ = [
    "Draft",
    "EpochRow",
    "Found",
    "OutboxBroken",
    "OutboxDamaged",
    "OutboxError",
    "OutboxFull",
    "OutboxHeld",
    "Sealed",
    "SegmentFile",
    "suspect_of",
]

FORMAT: Final = 1

EPOCH_BITS: Final = 40
"""Room for the seqs of an epoch where a damaged file is carried over."""

REFUSALS_KEPT: Final = 1_000

SAVED_AT_ONCE: Final = 256
"""Segments that are carried over in one commit."""

SAFE_SQLITE: Final = (3, 51, 3)
"""Older SQLite can lose commits when several connections check-point (its 3.51.3 notes)."""


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


class SegmentFile:
    """The open file. Not safe for two calls at once; its owner takes turns."""

    def __init__(self, path: Path, synchronous: str = "FULL") -> None:
        """Open or create the file.

        `synchronous` is FULL but in the negative control of the power-cut proof. Raises
        `OutboxHeld`, `OutboxDamaged` or `OutboxFull`.
        """
        self._path = path
        self._bases: list[tuple[int, int]] = []
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
        self._db.execute("PRAGMA locking_mode=EXCLUSIVE").fetchall()
        pragmas = ["journal_mode=WAL", f"synchronous={synchronous}", "journal_size_limit=8388608"]
        if not self._one("PRAGMA auto_vacuum"):
            pragmas.insert(0, "auto_vacuum=INCREMENTAL")
        for pragma in pragmas:
            self._db.execute(f"PRAGMA {pragma}").fetchall()
        version = self._one("PRAGMA user_version")
        if version == 0:
            with self._committing():
                self._db.execute(files("edge").joinpath("outbox.sql").read_text("utf-8"))
                self._db.execute(f"PRAGMA user_version={FORMAT}")
        elif version != FORMAT:
            msg = f"outbox format {version}; this gateway reads {FORMAT}: update the gateway"
            raise OutboxDamaged(msg)
        self._bases = sorted((row.base, row.epoch) for row in self.epochs())

    def close(self) -> None:
        """Close the file; what was committed stays."""
        self._db.close(force=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def _committing(self) -> Iterator[None]:
        """Commit what the block does, or nothing of it."""
        with _translated():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                # A full disk may have rolled everything back already.
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    def begin_epoch(self, epoch: int) -> EpochRow:
        """Note a new epoch; its segments get ids above all that ever were in the file."""
        with self._committing():
            top = self._one(
                "SELECT max(coalesce((SELECT max(id) FROM segments), 0),"
                " coalesce((SELECT max(base) FROM epochs), 0),"
                " coalesce((SELECT upto FROM tail), 0))"
            )
            self._db.execute("INSERT INTO epochs (epoch, base) VALUES (?, ?)", (epoch, top + 1))
        insort(self._bases, (top + 1, epoch))
        return EpochRow(epoch, top + 1)

    def append(
        self, row: EpochRow, seq: int, drafts: Sequence[Draft], tokens: bytes | None
    ) -> None:
        """Commit drafts as segments `seq`, `seq` + 1, …; they are on disk when this returns."""
        with self._committing():
            self._insert(row, seq, drafts, tokens)

    def _insert(
        self, row: EpochRow, seq: int, drafts: Sequence[Draft], tokens: bytes | None
    ) -> None:
        for nth, draft in enumerate(drafts, seq):
            with_it = tokens if nth == seq else None
            self._db.execute(
                f"INSERT INTO segments ({COLUMNS})"  # noqa: S608 - constant column list
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    row.base + nth,
                    row.epoch,
                    nth,
                    draft.kind.value,
                    draft.count,
                    draft.t0,
                    draft.t1,
                    crc_of(row.epoch, nth, draft, with_it),
                    draft.point_set,
                    draft.body,
                    with_it,
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
        with self._committing():
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
        self._give_back_space()
        return gone

    def drop(
        self,
        row: EpochRow,
        seqs: Sequence[Range],
        readings: int,
        event: tuple[EpochRow, int, Draft],
        tail: tuple[int, bytes],
    ) -> None:
        """Delete segments with so many readings and commit the gap event that declares it.

        The tail, with the id up to which it speaks, is the one without them.
        """
        with self._committing():
            for one in seqs:
                self._delete(row.base, one)
            self._db.execute(
                "UPDATE epochs SET dropped = dropped + ? WHERE epoch = ?", (readings, row.epoch)
            )
            owner, seq, draft = event
            self._insert(owner, seq, [draft], None)
            self._write_tail(*tail)

    def held(self, row: EpochRow, seqs: Sequence[Range]) -> int:
        """Count the readings in these segments of an epoch."""
        query = (
            "SELECT coalesce(sum(count), 0) FROM segments"
            " WHERE id BETWEEN ? AND ? AND kind <> 'events'"
        )
        with _translated():
            return sum(
                self._one(query, (row.base + first, row.base + last)) for first, last in seqs
            )

    def _delete(self, base: int, seqs: Range) -> int:
        rows = self._db.execute(
            "DELETE FROM segments WHERE id BETWEEN ? AND ? RETURNING kind, count",
            (base + seqs[0], base + seqs[1]),
        )
        return sum(count for kind, count in rows if kind != Kind.EVENTS)

    def write_tail(self, upto: int, tail: bytes) -> None:
        """Replace the tail."""
        with self._committing():
            self._write_tail(upto, tail)

    def _write_tail(self, upto: int, tail: bytes) -> None:
        self._db.execute("INSERT OR REPLACE INTO tail VALUES (1, ?, ?)", (upto, tail))

    def tail(self) -> tuple[int, bytes] | None:
        """Give the tail and the id it covers, if one was ever written."""
        with _translated():
            row = self._db.execute("SELECT upto, body FROM tail").fetchone()
        if row is None:
            return None
        upto, body = row
        if not isinstance(upto, int) or not isinstance(body, bytes):
            raise OutboxDamaged("the outbox file is damaged: its tail is none")
        return upto, body

    def epochs(self) -> list[EpochRow]:
        """List all epochs."""
        with _translated():
            rows = self._db.execute(
                "SELECT epoch, base, settled, dropped, delivered, collapsed, quarantined"
                " FROM epochs"
            ).fetchall()
        if not all(isinstance(value, int) for row in rows for value in row):
            raise OutboxDamaged("the outbox file is damaged: an epoch is none")
        return [EpochRow(*cast("tuple[int, int]", row)) for row in rows]

    def distrust(self) -> None:
        """Note beside the file that it was found damaged: the next start mends it."""
        with suppress(OSError):
            suspect_of(self._path).touch()

    def check(self) -> None:
        """Read the whole file; raises `OutboxDamaged` where its structure is not sound."""
        with _translated():
            found = self._db.execute("PRAGMA quick_check(1)").fetchone()
        if found != ("ok",):
            raise OutboxDamaged(f"the outbox file is damaged: {found}")

    def after(
        self, id_: int, below: int, limit: int, *, readings_only: bool = False
    ) -> Iterator[Found]:
        """Yield the segments with `id_` < id < `below` by id, at most `limit`, sound or not."""
        wanted = " AND kind <> 'events'" if readings_only else ""
        with _translated():
            rows = self._db.execute(
                f"SELECT {AS_READ} FROM segments"  # noqa: S608 - constant column list
                f" WHERE id > ? AND id < ?{wanted} ORDER BY id LIMIT ?",
                (id_, below, limit),
            )
            for row in rows:
                yield found_of(row, self._name_of(row[0]))

    def _name_of(self, id_: int) -> tuple[int, int]:
        at = bisect_right(self._bases, (id_, 2**63)) - 1
        if at < 0:
            raise OutboxDamaged(f"segment {id_} belongs to no epoch")
        base, epoch = self._bases[at]
        return epoch, id_ - base

    def check_place(self, row: EpochRow, seq: int) -> None:
        """Look whether a segment lies where it belongs; raises `OutboxDamaged` if it does not."""
        with _translated():
            found = self._db.execute(
                "SELECT epoch, seq FROM segments WHERE id = ?", (row.base + seq,)
            ).fetchone()
        if found != (row.epoch, seq):
            msg = f"the outbox file is damaged: {found} where {row.epoch}/{seq} belongs"
            raise OutboxDamaged(msg)

    def times_about(self, id_: int) -> list[tuple[int, int]]:
        """Give first and last time of a segment and of its neighbours, as far as they are there."""
        with _translated():
            return list(
                self._db.execute(
                    "SELECT CAST(t0 AS INTEGER), CAST(t1 AS INTEGER) FROM segments"
                    " WHERE id BETWEEN ? AND ?",
                    (id_ - 1, id_ + 1),
                )
            )

    def refuse(self, epoch: int, seq: int, code: str, detail: str, at_us: int) -> None:
        """Note that central refused a batch, and why."""
        with self._committing():
            self._db.execute(
                "INSERT OR REPLACE INTO refused VALUES (?, ?, ?, ?, ?)",
                (epoch, seq, code, detail, at_us),
            )
            self._db.execute(
                "DELETE FROM refused WHERE (epoch, seq) IN (SELECT epoch, seq FROM refused"
                " ORDER BY at_us DESC LIMIT -1 OFFSET ?)",
                (REFUSALS_KEPT,),
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
        with self._committing():
            self._db.execute("INSERT OR REPLACE INTO point_sets VALUES (?, ?)", (hash_, points))

    def point_set(self, hash_: bytes) -> bytes | None:
        """Give a kept point set; raises `OutboxDamaged` if it is not what its hash says."""
        with _translated():
            row = self._db.execute(
                "SELECT points FROM point_sets WHERE hash = ?", (hash_,)
            ).fetchone()
        if row is None:
            return None
        if not isinstance(row[0], bytes) or sha256(row[0]).digest() != hash_:
            raise OutboxDamaged("the outbox file is damaged: wrong checksum of a point set")
        return row[0]

    def take_over(self, salvage: Salvage) -> dict[int, SeqSet]:
        """Write what can be read of a damaged file into this new one; tell which batches.

        They keep their names, but get new ids: those of a damaged file cannot be trusted.
        """
        kept: dict[int, SeqSet] = {}
        rows: dict[int, EpochRow] = {}
        for batch in _portions(salvage.segments()):
            with self._committing():
                for one in batch:
                    epoch, seq = one.segment.epoch, one.segment.seq
                    if seq not in kept.setdefault(epoch, SeqSet()):
                        kept[epoch].add(seq, seq)
                        row = rows.get(epoch) or self._take_epoch(EpochRow(epoch, 0), rows)
                        self._insert(row, seq, [one.segment.as_draft()], one.tokens)
        with self._committing():
            for row in salvage.epochs():
                self._take_epoch(row, rows)
            for hash_, points in salvage.point_sets().items():
                self._db.execute("INSERT OR IGNORE INTO point_sets VALUES (?, ?)", (hash_, points))
        self._bases = sorted((row.base, row.epoch) for row in rows.values())
        return kept

    def _take_epoch(self, row: EpochRow, rows: dict[int, EpochRow]) -> EpochRow:
        known = rows.get(row.epoch)
        base = known.base if known else (len(rows) + 1) << EPOCH_BITS
        rows[row.epoch] = taken = replace(row, base=base)
        self._db.execute(
            "INSERT OR REPLACE INTO epochs VALUES (?, ?, ?, ?, ?, ?, ?)", astuple(taken)
        )
        return taken

    def as_one_file(self) -> None:
        """Bring all into the file itself, without a WAL beside it, so that it can be renamed."""
        with _translated():
            self._db.execute("PRAGMA journal_mode=DELETE").fetchall()

    def used_bytes(self) -> int:
        """Tell how much of the file holds something."""
        with _translated():
            pages = self._one("PRAGMA page_count") - self._one("PRAGMA freelist_count")
            return pages * self._one("PRAGMA page_size")

    def _give_back_space(self) -> None:
        # After an outage the file gives its space back, a little at a time so that commits go on.
        # On a full disk even that takes room; nothing depends on it.
        with suppress(OutboxFull), _translated():
            if self._one("PRAGMA freelist_count") > 2_048:
                self._db.execute("PRAGMA incremental_vacuum(512)").fetchall()

    def _one(self, query: str, values: tuple[int, ...] = ()) -> int:
        row = self._db.execute(query, values).fetchone()
        return 0 if row is None else int(row[0])


def suspect_of(path: Path) -> Path:
    """Name the mark that says that a file was found damaged."""
    return path.with_suffix(".suspect")


def _portions(found: Iterator[Found]) -> Iterator[list[Found]]:
    while portion := list(islice(found, SAVED_AT_ONCE)):
        yield portion


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except apsw.Error as error:
        raise _meaning(error) from error
    except UnicodeDecodeError as error:
        raise OutboxDamaged(f"the outbox file is damaged: {error}") from error


def _meaning(error: apsw.Error) -> Exception:
    if isinstance(error, apsw.BusyError | apsw.LockedError):
        return OutboxHeld("the outbox is held by a running gateway: ask it, or stop it")
    if isinstance(error, apsw.FullError):
        return OutboxFull("the disk is full: free some space; nothing was lost")
    if isinstance(error, _DAMAGE) or getattr(error, "extendedresult", 0) in _UNREADABLE:
        return OutboxDamaged(f"the outbox file is damaged: {error}")
    if isinstance(error, apsw.CantOpenError | apsw.ReadOnlyError | apsw.PermissionsError):
        return OutboxBroken(f"the outbox file cannot be opened for writing: {error}")
    if isinstance(error, apsw.IOError):
        return OutboxBroken(f"the disk failed: {error}")
    return error


_DAMAGE: Final = (
    apsw.CorruptError,
    apsw.NotADBError,
    apsw.FormatError,
    # All statements are fixed: if one does not fit, the schema or a row is not what we wrote.
    apsw.SQLError,
    apsw.ConstraintError,
    apsw.MismatchError,
)
_UNREADABLE: Final = (
    apsw.SQLITE_IOERR_READ,
    apsw.SQLITE_IOERR_SHORT_READ,
    apsw.SQLITE_IOERR_CORRUPTFS,
)
