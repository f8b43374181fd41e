"""Reading what can still be read of a damaged outbox file, to carry it over into a new one."""

from collections.abc import Iterator
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, Self

import apsw

from edge.hold import Held, held_of
from edge.sealed import AS_READ, AS_READ_1, EpochRow, Found, found_of

MOST_LEAPS: Final = 10_000
LONGEST_LEAP: Final = 1 << 45
"""Beyond the ids of any epoch that may come next."""


class Salvage:
    """A damaged file, of which all is read that can be; the file is not changed."""

    def __init__(self, damaged: Path) -> None:
        """Open the file, if it can be opened at all."""
        self._source: apsw.Connection | None = None
        self.broke_off = False
        with suppress(apsw.Error):
            self._source = apsw.Connection(str(damaged), flags=apsw.SQLITE_OPEN_READWRITE)
            self._source.execute("PRAGMA locking_mode=EXCLUSIVE").fetchall()
            self._source.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._source is not None:
            self._source.close(force=True)

    def segments(self) -> Iterator[Found]:
        """Yield every sound segment that a point set is known for; one may come twice.

        Where a page of the file is damaged, what lies beyond it is read all the same.
        """
        known = self.point_sets()
        for row in self._rows():
            one = found_of(row, (row[1], row[2]))
            if one.is_sound and one.segment.point_set in known:
                yield one

    def _rows(self) -> Iterator[tuple[Any, ...]]:
        """Read on from the front, with longer and longer leaps over what cannot be read."""
        columns = AS_READ if self._knows_classes() else AS_READ_1
        query = f"SELECT {columns} FROM segments WHERE id"  # noqa: S608 - constant column list
        last, leap = -1, 0
        for _ in range(MOST_LEAPS):
            for row in self._readable(f"{query} > ? ORDER BY id", last + leap):
                if leap:
                    # The leap may have gone too far: come back to the damage from behind.
                    yield from self._readable(
                        f"{query} > ? AND id < ? ORDER BY id DESC", last, row[0]
                    )
                last, leap = row[0], 0
                yield row
            if not self.broke_off:
                break
            leap = max(1, 2 * leap)
            if leap > LONGEST_LEAP:
                break
        if leap:
            yield from self._readable(f"{query} > ? ORDER BY id DESC", last)

    def _knows_classes(self) -> bool:
        names = self._readable("SELECT name FROM pragma_table_info('segments')")
        return ("class",) in names

    def epochs(self) -> Iterator[EpochRow]:
        """Yield the epochs."""
        for row in self._readable("SELECT * FROM epochs"):
            if all(isinstance(value, int) and value >= 0 for value in row):
                yield EpochRow(*row)

    def point_sets(self) -> dict[bytes, bytes]:
        """Give the point sets that are what their hash says, packed."""
        rows = self._readable("SELECT hash, points FROM point_sets")
        return {hash_: packed for hash_, packed in rows if sha256(packed).digest() == hash_}

    def tail(self) -> tuple[int, bytes] | None:
        """Give the tail and the id it covers, if it is there."""
        for upto, body in self._readable("SELECT upto, body FROM tail"):
            if isinstance(upto, int) and isinstance(body, bytes):
                return upto, body
        return None

    def held_back(self) -> Iterator[Held]:
        """Yield what waits for the clock and is sound."""
        for row in self._readable("SELECT id, boot, real_us, readings, body FROM held ORDER BY id"):
            held = held_of(row)
            if held is not None:
                yield held

    def _readable(self, query: str, *values: int) -> Iterator[tuple[Any, ...]]:
        self.broke_off = False
        if self._source is None:
            return
        try:
            yield from self._source.execute(query, values)
        except (apsw.Error, UnicodeDecodeError):
            self.broke_off = True
