"""Reading the outbox's SQLite file: segments, tail, epochs, point sets, and whether it is sound."""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from hashlib import sha256
from typing import Self, cast

import apsw

from edge.hold import Held, held_of
from edge.sealed import AS_READ, CLASSES, EpochRow, Found, found_of
from edge.sqlite import OutboxDamaged, translated
from shared.link import Range
from shared.model import Kind, PointClass

Sort = tuple[Kind, PointClass]
"""What a segment holds: its kind, and the class of its points."""


class SegmentReads:
    """The questions to an open file; `edge.segments.SegmentFile` opens it and writes to it."""

    def __init__(self, db: apsw.Connection) -> None:
        """Ask `db`."""
        self._db = db
        self._bases: list[tuple[int, int]] = []

    def close(self) -> None:
        """Close the file; what was committed stays."""
        with translated():
            self._db.close(force=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def held(self, row: EpochRow, seqs: Sequence[Range]) -> int:
        """Count the readings in these segments of an epoch."""
        query = (
            "SELECT coalesce(sum(count), 0) FROM segments"
            " WHERE id BETWEEN ? AND ? AND kind = 'readings'"
        )
        with translated():
            return sum(
                self._one(query, (row.base + first, row.base + last)) for first, last in seqs
            )

    def tail(self) -> tuple[int, bytes] | None:
        """Give the tail and the id it covers, if one was ever written."""
        with translated():
            row = self._db.execute("SELECT upto, body FROM tail").fetchone()
        if row is None:
            return None
        upto, body = row
        if not isinstance(upto, int) or not isinstance(body, bytes):
            raise OutboxDamaged("the outbox file is damaged: its tail is none")
        return upto, body

    def epochs(self) -> list[EpochRow]:
        """List all epochs."""
        with translated():
            rows = self._db.execute(
                "SELECT epoch, base, settled, dropped, delivered, collapsed, quarantined"
                " FROM epochs"
            ).fetchall()
        if not all(isinstance(value, int) for row in rows for value in row):
            raise OutboxDamaged("the outbox file is damaged: an epoch is none")
        return [EpochRow(*cast("tuple[int, int]", row)) for row in rows]

    def check(self) -> None:
        """Read the whole file; raises `OutboxDamaged` where its structure is not sound."""
        with translated():
            found = self._db.execute("PRAGMA quick_check(1)").fetchone()
        if found != ("ok",):
            raise OutboxDamaged(f"the outbox file is damaged: {found}")

    def after(
        self, id_: int, below: int, limit: int, *, sort: Sort | None = None
    ) -> Iterator[Found]:
        """Yield the segments with `id_` < id < `below` by id, at most `limit`, sound or not."""
        wanted = "" if sort is None else " AND kind = ? AND class = ?"
        values = () if sort is None else (sort[0].value, CLASSES.index(sort[1]))
        with translated():
            rows = self._db.execute(
                f"SELECT {AS_READ} FROM segments"  # noqa: S608 - constant column list
                f" WHERE id > ? AND id < ?{wanted} ORDER BY id LIMIT ?",
                (id_, below, *values, limit),
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
        with translated():
            found = self._db.execute(
                "SELECT epoch, seq FROM segments WHERE id = ?", (row.base + seq,)
            ).fetchone()
        if found != (row.epoch, seq):
            msg = f"the outbox file is damaged: {found} where {row.epoch}/{seq} belongs"
            raise OutboxDamaged(msg)

    def times_about(self, id_: int) -> list[tuple[int, int]]:
        """Give first and last time of a segment and of its neighbours, as far as they are there."""
        with translated():
            return list(
                self._db.execute(
                    "SELECT CAST(t0 AS INTEGER), CAST(t1 AS INTEGER) FROM segments"
                    " WHERE id BETWEEN ? AND ?",
                    (id_ - 1, id_ + 1),
                )
            )

    def refusals(self, limit: int) -> list[tuple[int, int, str, str, int]]:
        """List the newest refusals: epoch, seq, code, detail, time."""
        with translated():
            rows = self._db.execute(
                "SELECT * FROM refused ORDER BY at_us DESC LIMIT ?", (limit,)
            ).fetchall()
        return cast("list[tuple[int, int, str, str, int]]", rows)

    def point_set(self, hash_: bytes) -> bytes | None:
        """Give a kept point set; raises `OutboxDamaged` if it is not what its hash says."""
        with translated():
            row = self._db.execute(
                "SELECT points FROM point_sets WHERE hash = ?", (hash_,)
            ).fetchone()
        if row is None:
            return None
        if not isinstance(row[0], bytes) or sha256(row[0]).digest() != hash_:
            raise OutboxDamaged("the outbox file is damaged: wrong checksum of a point set")
        return row[0]

    def held_back(self, most_readings: int) -> list[Held]:
        """Read the oldest rows that wait for the clock, of about so many readings together.

        Raises `OutboxDamaged` for one whose bytes are not what was written.
        """
        found: list[Held] = []
        query = "SELECT id, boot, real_us, readings, body FROM held ORDER BY id"
        with translated():
            for row in self._db.execute(query):
                held = held_of(row)
                if held is None:
                    raise OutboxDamaged("the outbox file is damaged: what waits for the clock")
                found.append(held)
                if sum(one.readings for one in found) >= most_readings:
                    break
        return found

    def held_latest(self) -> dict[str, int]:
        """Tell the latest time that was held in each boot, by the clock of that boot."""
        with translated():
            rows = self._db.execute("SELECT boot, max(real_us) FROM held GROUP BY boot")
            return {str(boot): latest for boot, latest in rows if isinstance(latest, int)}

    def held_count(self) -> tuple[int, int]:
        """Count the rows, and the readings in them, that wait for the clock."""
        rows = int(self._one("SELECT count(*) FROM held") or 0)
        return rows, int(self._one("SELECT coalesce(sum(readings), 0) FROM held") or 0)

    def used_bytes(self) -> int:
        """Tell how much of the file holds something."""
        with translated():
            pages = self._one("PRAGMA page_count") - self._one("PRAGMA freelist_count")
            return pages * self._one("PRAGMA page_size")

    def _one(self, query: str, values: tuple[int, ...] = ()) -> int:
        row = self._db.execute(query, values).fetchone()
        return 0 if row is None else int(row[0])
