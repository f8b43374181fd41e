"""The outbox's SQLite file: sealed segments on disk, in one connection, every commit synced.

It blocks; `edge.outbox` calls it from a thread. With `edge.segment_reads`, `edge.salvage` (files
that are damaged) and `edge.sqlite` (its errors) it is all that knows SQLite.
Source for the settings: SQLite documentation, "PRAGMA synchronous" and "Write-Ahead Logging".
"""

from bisect import insort
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import astuple
from importlib.resources import files
from itertools import islice
from pathlib import Path
from typing import Final

import apsw

from edge.hold import Held
from edge.salvage import Salvage
from edge.saved import Saved
from edge.sealed import CLASSES, COLUMNS, Draft, EpochRow, Found, crc_of
from edge.segment_reads import SegmentReads
from edge.sqlite import OutboxBroken, OutboxFull, translated
from shared.link import Range, Settled
from shared.model import Kind

FORMAT: Final = 3

_CLASSES: Final = "ALTER TABLE segments ADD COLUMN class INTEGER NOT NULL DEFAULT 1"
_HELD: Final = """
CREATE TABLE IF NOT EXISTS held (id INTEGER PRIMARY KEY, boot TEXT NOT NULL,
    real_us INTEGER NOT NULL, readings INTEGER NOT NULL, body BLOB NOT NULL) STRICT;
"""

REFUSALS_KEPT: Final = 1_000

SAVED_AT_ONCE: Final = 4_096
"""Segments that are carried over in one commit."""

SAFE_SQLITE: Final = (3, 51, 3)
"""Older SQLite can lose commits when several connections check-point (its 3.51.3 notes)."""


class SegmentFile(SegmentReads):
    """The open file. Not safe for two calls at once; its owner takes turns."""

    def __init__(self, path: Path, synchronous: str = "FULL") -> None:
        """Open or create the file.

        `synchronous` is FULL but in the negative control of the power-cut proof. Raises
        `OutboxHeld`, `OutboxDamaged` or `OutboxFull`.
        """
        self._path = path
        with translated():
            super().__init__(apsw.Connection(str(path)))
        try:
            with translated():
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
        elif version in (1, 2):
            with self._committing():
                if version == 1:
                    self._db.execute(_CLASSES)
                self._db.execute(_HELD)
                self._db.execute(f"PRAGMA user_version={FORMAT}")
        elif version != FORMAT:
            msg = f"outbox format {version}; this gateway reads {FORMAT}: update the gateway"
            raise OutboxBroken(msg)
        self._bases = sorted((row.base, row.epoch) for row in self.epochs())

    @contextmanager
    def _committing(self) -> Iterator[None]:
        """Commit what the block does, or nothing of it."""
        with translated():
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
        self,
        row: EpochRow,
        seq: int,
        drafts: Sequence[Draft],
        tokens: bytes | None,
        held_upto: int = 0,
    ) -> None:
        """Commit drafts as segments `seq`, `seq` + 1, …; they are on disk when this returns.

        What was held up to `held_upto` is in them, and is held no more.
        """
        with self._committing():
            self._insert(row, seq, drafts, tokens)
            if held_upto:
                self._db.execute("DELETE FROM held WHERE id <= ?", (held_upto,))

    def hold(self, held: Held) -> None:
        """Commit what waits for the clock."""
        with self._committing():
            self._db.execute(
                "INSERT INTO held (boot, real_us, readings, body) VALUES (?, ?, ?, ?)",
                (held.boot, held.real_us, held.readings, held.body),
            )

    def _insert(
        self, row: EpochRow, seq: int, drafts: Sequence[Draft], tokens: bytes | None
    ) -> None:
        for nth, draft in enumerate(drafts, seq):
            with_it = tokens if nth == seq else None
            self._db.execute(
                f"INSERT INTO segments ({COLUMNS})"  # noqa: S608 - constant column list
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
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
                    CLASSES.index(draft.klass),
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

    def _delete(self, base: int, seqs: Range) -> int:
        rows = self._db.execute(
            "DELETE FROM segments WHERE id BETWEEN ? AND ? RETURNING kind, count",
            (base + seqs[0], base + seqs[1]),
        )
        return sum(count for kind, count in rows if kind == Kind.READINGS)

    def write_tail(self, upto: int, tail: bytes) -> None:
        """Replace the tail."""
        with self._committing():
            self._write_tail(upto, tail)

    def _write_tail(self, upto: int, tail: bytes) -> None:
        self._db.execute("INSERT OR REPLACE INTO tail VALUES (1, ?, ?)", (upto, tail))

    def distrust(self) -> None:
        """Note beside the file that it was found damaged: the next start mends it."""
        with suppress(OSError):
            suspect_of(self._path).touch()

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

    def keep_point_set(self, hash_: bytes, points: bytes) -> None:
        """Keep a point set for as long as the file lives."""
        with self._committing():
            self._db.execute("INSERT OR REPLACE INTO point_sets VALUES (?, ?)", (hash_, points))

    def forget_point_sets(self, but: bytes) -> None:
        """Delete the point sets that no batch in the file speaks of, but the one in use."""
        with self._committing():
            self._db.execute(
                "DELETE FROM point_sets WHERE hash <> ?"
                " AND hash NOT IN (SELECT point_set FROM segments)",
                (but,),
            )

    def take_over(self, salvage: Salvage, upto: int | None) -> Saved:
        """Write what can be read of a damaged file into this new one; tell which batches.

        They keep their names, but get new ids: those of a damaged file cannot be trusted. `upto` is
        the id up to which the damaged file's tail tells of its segments, None where it is lost.
        """
        saved = Saved(upto)
        for known in sorted(salvage.epochs(), key=lambda row: row.base):
            saved.take_epoch(known)
        for batch in _portions(salvage.segments()):
            with self._committing():
                for one in batch:
                    row = saved.taken(one)
                    if row is not None:
                        draft = one.segment.as_draft()
                        self._insert(row, one.segment.seq, [draft], one.tokens)
        with self._committing():
            for new in saved.rows.values():
                self._db.execute("INSERT INTO epochs VALUES (?, ?, ?, ?, ?, ?, ?)", astuple(new))
            for hash_, points in salvage.point_sets().items():
                self._db.execute("INSERT OR IGNORE INTO point_sets VALUES (?, ?)", (hash_, points))
        for held in salvage.held_back():
            self.hold(held)
        self._bases = sorted((row.base, row.epoch) for row in saved.rows.values())
        return saved

    def as_one_file(self) -> None:
        """Bring all into the file itself, without a WAL beside it, so that it can be renamed."""
        with translated():
            self._db.execute("PRAGMA journal_mode=DELETE").fetchall()

    def _give_back_space(self) -> None:
        # After an outage the file gives its space back, a little at a time so that commits go on.
        # On a full disk even that takes room; nothing depends on it.
        with suppress(OutboxFull), translated():
            if self._one("PRAGMA freelist_count") > 2_048:
                self._db.execute("PRAGMA incremental_vacuum(512)").fetchall()


def suspect_of(path: Path) -> Path:
    """Name the mark that says that a file was found damaged."""
    return path.with_suffix(".suspect")


def _portions(found: Iterator[Found]) -> Iterator[list[Found]]:
    while portion := list(islice(found, SAVED_AT_ONCE)):
        yield portion
