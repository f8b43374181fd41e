"""The configuration on disk: revisions, proposals and a few facts, in a database of their own.

All of it blocks: the twin calls it in a thread, one call at a time.
"""

import json
import sqlite3
import threading
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, Self

from sqlite_utils import Database

from edge.config_schema import MIGRATIONS
from edge.document import canonical
from shared.errors import SpineError

FILE_NAME: Final = "config.db"
KEPT: Final = 200
"""Revisions that are kept; older ones are forgotten."""

BUSY_S: Final = 5.0

NO_FACTS: Final[Mapping[str, Any]] = {}

_HEAD: Final = "number, hash, source, reason, at_us, state, previous, central"


class ConfigDamaged(SpineError):
    """The configuration database cannot be read."""


class ConfigUnwritable(SpineError):
    """The configuration database takes no writes; nothing was changed."""


class State(StrEnum):
    """What became of a revision."""

    PENDING = "pending"
    CURRENT = "current"
    REPLACED = "replaced"
    FAILED = "failed"
    REVERTED = "reverted"


@dataclass(frozen=True, slots=True)
class Head:
    """A revision without its document.

    `previous` is the revision that an undo of this one returns to, 0 for none; `central` the
    revision of central that this one is based on, 0 for none.
    """

    number: int
    hash: bytes
    source: str
    reason: str
    at_us: int
    state: State = State.PENDING
    previous: int = 0
    central: int = 0


@dataclass(frozen=True, slots=True)
class Revision:
    """One state of the configuration document; documents are not to be changed in place."""

    head: Head
    document: Mapping[str, Any]

    @property
    def number(self) -> int:
        """Its number, counted up by this gateway."""
        return self.head.number

    @property
    def hash(self) -> bytes:
        """SHA-256 of the canonical document; 32 bytes."""
        return self.head.hash

    @property
    def source(self) -> str:
        """Where it came from: file, central, api and so on."""
        return self.head.source

    @property
    def reason(self) -> str:
        """Why, in somebody's words."""
        return self.head.reason

    @property
    def at_us(self) -> int:
        """When it was made, by the gateway's clock; never used to decide anything."""
        return self.head.at_us


class ConfigStore:
    """The open database."""

    def __init__(self, path: Path) -> None:
        """Open or make the file and bring its schema forward.

        Raises `ConfigDamaged`, or `ConfigUnwritable` where there is no room or no right.
        """
        # A caller that is cancelled leaves its thread at work: calls never overlap all the same.
        self._turn = threading.RLock()
        path.touch(mode=0o600)
        self._connection = sqlite3.connect(path, timeout=BUSY_S, check_same_thread=False)
        try:
            self._db = _opened(self._connection)
        except sqlite3.Error as error:
            self._connection.close()
            if getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF in _DAMAGE:
                raise ConfigDamaged(f"{path} is damaged: {error}") from error
            raise ConfigUnwritable(f"{path} cannot be opened for writing: {error}") from error

    def __enter__(self) -> Self:
        """Use the open database."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    def close(self) -> None:
        """Close the file."""
        with self._turn:
            self._connection.close()

    def heads(self) -> list[Head]:
        """List all revisions, oldest first."""
        rows = self.rows(f"SELECT {_HEAD} FROM revisions ORDER BY number")  # noqa: S608 - our own names
        return [_head(row) for row in rows]

    def revision(self, number: int) -> Revision | None:
        """Read a revision with its document."""
        query = f"SELECT {_HEAD}, document FROM revisions WHERE number = ?"  # noqa: S608 - our own names
        for row in self.rows(query, [number]):
            return Revision(_head(row), unpacked(row.pop("document")))
        return None

    def current(self) -> Revision | None:
        """Read the revision that is in force."""
        query = "SELECT number FROM revisions WHERE state = ?"
        for row in self.rows(query, [State.CURRENT.value]):
            return self.revision(row["number"])
        return None

    def add(self, revision: Revision) -> Revision:
        """Keep a revision under the next number, in force or not as its state says."""
        head, document = revision.head, packed(revision.document)
        with self.writing() as db:
            number = next_number(db, "revisions")
            fields = _fields(replace(head, number=number))
            self._db.table("revisions").insert({**fields, "document": document})
        return Revision(replace(head, number=number), revision.document)

    def promote(
        self, number: int, before: State = State.REPLACED, facts: Mapping[str, Any] = NO_FACTS
    ) -> None:
        """Put a revision in force, with the facts that begin with it.

        `before` is what becomes of the one that was.
        """
        with self.writing():
            self._note(facts)
            self._db.execute(
                "UPDATE revisions SET state = ? WHERE state = ?",
                [before.value, State.CURRENT.value],
            )
            self._db.execute(
                "UPDATE revisions SET state = ? WHERE number = ?", [State.CURRENT.value, number]
            )
            self._db.execute(
                "DELETE FROM revisions WHERE number <= ? AND state <> ?",
                [number - KEPT, State.CURRENT.value],
            )

    def mark(self, number: int, state: State) -> None:
        """Note what became of a revision."""
        with self.writing():
            self._db.execute(
                "UPDATE revisions SET state = ? WHERE number = ?", [state.value, number]
            )

    def base_on(self, number: int, central: int, facts: Mapping[str, Any]) -> None:
        """Note that a revision is, or is based on, this revision of central."""
        with self.writing():
            self._note(facts)
            self._db.execute("UPDATE revisions SET central = ? WHERE number = ?", [central, number])

    def abandon_pending(self) -> None:
        """Note that changes which were under way when the process ended did not happen."""
        if any(head.state is State.PENDING for head in self.heads()):
            with self.writing():
                self._db.execute(
                    "UPDATE revisions SET state = ? WHERE state = ?",
                    [State.FAILED.value, State.PENDING.value],
                )

    def fact(self, name: str) -> Any:
        """Read a fact; None where there is none."""
        for row in self.rows("SELECT value FROM facts WHERE name = ?", [name]):
            return json.loads(row["value"])
        return None

    def note(self, facts: Mapping[str, Any]) -> None:
        """Keep facts, each under its name."""
        with self.writing():
            self._note(facts)

    def _note(self, facts: Mapping[str, Any]) -> None:
        rows = [{"name": name, "value": json.dumps(value)} for name, value in facts.items()]
        self._db.table("facts").upsert_all(rows, pk="name")

    def rows(self, query: str, values: Sequence[Any] = ()) -> list[dict[str, Any]]:
        """Read rows."""
        with self._turn:
            return list(self._db.query(query, values))

    @contextmanager
    def writing(self) -> Iterator[Database]:
        """Write in one transaction. Raises `ConfigUnwritable` with nothing changed."""
        try:
            with self._turn, self._db.atomic():
                yield self._db
        except sqlite3.Error as error:
            msg = f"the configuration cannot be stored ({error}); nothing was changed"
            raise ConfigUnwritable(msg) from error


def _opened(connection: sqlite3.Connection) -> Database:
    # Rollback journal: several connections are safe with it in every SQLite, and the file is
    # whole by itself when nobody writes.
    connection.execute("PRAGMA journal_mode = DELETE")
    connection.execute("PRAGMA synchronous = EXTRA")
    (checked,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if checked != "ok":
        raise sqlite3.DatabaseError(str(checked))
    db = Database(connection)
    MIGRATIONS.apply(db)
    return db


_DAMAGE: Final = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def _fields(head: Head) -> dict[str, Any]:
    names = ("number", "hash", "source", "reason", "at_us", "state", "previous", "central")
    return {name: getattr(head, name) for name in names} | {"state": head.state.value}


def _head(row: Mapping[str, Any]) -> Head:
    fields = {name: row[name] for name in _HEAD.split(", ")}
    return Head(**{**fields, "state": State(row["state"])})


def next_number(db: Database, table: str) -> int:
    """Take the next number of a table; none comes twice."""
    db.execute("UPDATE counters SET seq = seq + 1 WHERE name = ?", [table])
    (number,) = db.execute("SELECT seq FROM counters WHERE name = ?", [table]).fetchone()
    return int(number)


def packed(document: Mapping[str, Any]) -> bytes:
    """Write a document for the store."""
    return zlib.compress(canonical(document), 6)


def unpacked(body: bytes) -> dict[str, Any]:
    """Read what `packed` wrote. Raises `ConfigDamaged`."""
    try:
        return dict(json.loads(zlib.decompress(body)))
    except (zlib.error, ValueError) as error:
        raise ConfigDamaged(f"a stored configuration is damaged: {error}") from error
