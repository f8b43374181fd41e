"""The audit: what happened to commands, each entry chained to the one before by its hash."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from sqlite_utils import Database

KEPT: Final = 20_000
"""Entries that are kept; the oldest are forgotten, a slice at a time."""

SLICE: Final = 1_000
FIRST: Final = bytes(32)
"""What the first entry of all is chained to."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry; `hash` covers its number, time and content and the hash before."""

    number: int
    at_us: int
    entry: Mapping[str, Any]
    previous: bytes
    hash: bytes


def note(db: Database, at_us: int, entry: Mapping[str, Any]) -> None:
    """Add an entry, in the transaction that is on."""
    last = db.execute("SELECT number, hash FROM audit ORDER BY number DESC LIMIT 1").fetchone()
    number, previous = (last[0] + 1, last[1]) if last else (1, FIRST)
    text = json.dumps(entry, sort_keys=True, ensure_ascii=False)
    db.execute(
        "INSERT INTO audit VALUES (?, ?, ?, ?, ?)",
        [number, at_us, text, previous, _hash(number, at_us, text, previous)],
    )
    if number % SLICE == 0:
        db.execute("DELETE FROM audit WHERE number <= ?", [number - KEPT])


class Rows(Protocol):
    """Reads rows of the database, such as `edge.commands.store.CommandStore`."""

    def rows(self, query: str, values: Sequence[Any] = ()) -> list[dict[str, Any]]:
        """Read rows."""
        ...


def newest(store: Rows, limit: int, before: int) -> list[Entry]:
    """List the newest entries, those before a number."""
    query = "SELECT * FROM audit WHERE number < ? ORDER BY number DESC LIMIT ?"
    return [
        Entry(row["number"], row["at_us"], json.loads(row["entry"]), row["previous"], row["hash"])
        for row in store.rows(query, [before, limit])
    ]


def broken_at(store: Rows) -> int | None:
    """Tell the first entry that is not what was noted; None if all are."""
    before: tuple[int, bytes] | None = None
    for row in store.rows("SELECT * FROM audit ORDER BY number"):
        expected = _hash(row["number"], row["at_us"], row["entry"], row["previous"])
        follows = before is None or (row["number"] - 1, row["previous"]) == before
        if expected != row["hash"] or not follows:
            return int(row["number"])
        before = (row["number"], row["hash"])
    return None


def _hash(number: int, at_us: int, text: str, previous: bytes) -> bytes:
    return hashlib.sha256(previous + f"{number} {at_us} {text}".encode()).digest()
