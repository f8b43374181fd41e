"""Commands on disk: what was asked, what became of it, who holds what, and the audit of it all.

Each method is one synced transaction. *Sending* is committed before a device is written to, so
that after a crash nobody writes again what may have been written. All of it blocks.
"""

import json
import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from sqlite_utils import Database

from edge.commands import audit
from edge.commands.book import Book, Place
from edge.commands.command import Asked, Command, Lease, Record, Slot, Source, State
from edge.commands.moments import Moment
from edge.commands.schema import MIGRATIONS
from shared.errors import SpineError

FILE_NAME: Final = "commands.db"
KEPT: Final = 10_000
"""Commands that are remembered; of more, the oldest whose time is over are forgotten."""

BUSY_S: Final = 5.0

CRASHED: Final = "the gateway ended between the write and its proof: nobody knows"

_FIELDS: Final = "number, id, asked, source, accepted_us, boot, boot_s, state, detail, finished_us"


class CommandsDamaged(SpineError):
    """The database of commands cannot be read: what was written before is not known."""


class CommandsUnwritable(SpineError):
    """The database of commands takes no writes; nothing was changed and nothing is written."""


@dataclass(frozen=True, slots=True)
class Ending:
    """What became of a command, and what of the priority array with it.

    `held` is who holds from now on, `freed` who no longer does, `owes` where the device may have
    what is not its due, `paid` where it has what it should again.
    """

    state: State
    detail: str = ""
    held: Slot | None = None
    freed: tuple[Place, ...] = ()
    owes: tuple[Place, ...] = ()
    paid: tuple[Place, ...] = ()


class CommandStore:
    """The open database."""

    def __init__(self, path: Path) -> None:
        """Open or make the file. Raises `CommandsDamaged` or `CommandsUnwritable`."""
        self._turn = threading.RLock()
        try:
            path.touch(mode=0o600)
            self._connection = sqlite3.connect(path, timeout=BUSY_S, check_same_thread=False)
        except (OSError, sqlite3.Error) as error:
            raise CommandsUnwritable(f"{path} cannot be opened: {error}") from error
        try:
            self._db = _opened(self._connection)
        except sqlite3.Error as error:
            self._connection.close()
            if getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF in _DAMAGE:
                raise CommandsDamaged(f"{path} is damaged: {error}") from error
            raise CommandsUnwritable(f"{path} cannot be opened for writing: {error}") from error

    def close(self) -> None:
        """Close the file."""
        with self._turn:
            self._connection.close()

    def recovered(self, now: Moment, *, is_synchronised: bool) -> Book:
        """Say of what was being sent when the process ended that nobody knows; give what is open.

        The point of such a command is owed what it should have.
        """
        for record in self._records("state = ?", [State.SENDING.value]):
            place = (record.command.point, record.command.priority)
            freed = (place,) if record.command.asked.value is None else ()
            ending = Ending(State.UNKNOWN, CRASHED, freed=freed, owes=(place,))
            self.finish(record.command, ending, now)
        slots = [
            self._gone_on(_slot(row), now, is_synchronised=is_synchronised)
            for row in self.rows("SELECT * FROM slots")
        ]
        return Book(
            {one.command.id: one.command for one in self._records("state = ?", ["waiting"])},
            {(slot.point, slot.priority): slot for slot in slots},
            {(row["point"], row["priority"]): 0 for row in self.rows("SELECT * FROM owed")},
            {
                row["point"]: Moment(row["at_us"], row["boot"], row["boot_s"])
                for row in self.rows("SELECT * FROM written")
            },
        )

    def _gone_on(self, slot: Slot, now: Moment, *, is_synchronised: bool) -> Slot:
        if slot.lease is None or (now.boot and slot.lease.boot == now.boot):
            return slot
        lease = slot.lease.in_boot(now, slot.length_s, is_synchronised=is_synchronised)
        moved = replace(slot, lease=lease)
        with self.writing():
            self._hold(moved)
        return moved

    def known(self, id_: bytes) -> tuple[Record, bytes] | None:
        """Look a command up: its record, and the digest of the content that its id stands for."""
        for record in self._records("id = ?", [id_]):
            (row,) = self.rows("SELECT digest FROM commands WHERE id = ?", [id_])
            return record, bytes(row["digest"])
        return None

    def history(self, limit: int, before: int, point: str | None) -> list[Record]:
        """List the newest commands, those before a number."""
        where = "number < ?"
        values: list[Any] = [before]
        if point is not None:
            where, values = f"{where} AND point = ?", [*values, point]
        return self._records(where, values, f"number DESC LIMIT {limit:d}")

    def untold(self, limit: int) -> list[Record]:
        """List what central has not confirmed to know the end of, oldest first."""
        where = "is_told = 0 AND state NOT IN (?, ?)"
        values = [State.WAITING.value, State.SENDING.value]
        return self._records(where, values, f"number LIMIT {limit:d}")

    def floor_us(self) -> int:
        """Tell up to which expiry commands may be forgotten: one that expires by then is late."""
        for row in self.rows("SELECT value FROM facts WHERE name = 'floor_us'"):
            return int(row["value"])
        return 0

    def accept(self, command: Command, state: State, detail: str = "") -> Command:
        """Keep a command, waiting, refused, expired or, of the gateway itself, sending."""
        now = command.accepted
        finished_us = now.utc_us if state.is_final else 0
        with self.writing() as db:
            _forget(db, now.utc_us)
            cursor = db.execute(
                "INSERT INTO commands (id, digest, asked, point, source, accepted_us, boot,"
                " boot_s, expires_us, state, detail, finished_us, is_told)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                [command.id, command.digest(), command.asked.model_dump_json(), command.point,
                 command.source.value, now.utc_us, now.boot, now.boot_s, command.expires_us,
                 state.value, detail, finished_us, command.source is not Source.CENTRAL],
            )  # fmt: skip
            entry = {**command.asked.model_dump(mode="json"), "source": command.source.value}
            self._note(command.id, now, {**entry, "state": state.value, "detail": detail})
        return replace(command, number=int(cursor.lastrowid or 0))

    def sending(self, command: Command, now: Moment) -> None:
        """Note that a device is about to be written to."""
        with self.writing() as db:
            db.execute(
                "UPDATE commands SET state = ? WHERE id = ? AND state = ?",
                [State.SENDING.value, command.id, State.WAITING.value],
            )
            db.execute(
                "INSERT OR REPLACE INTO written VALUES (?, ?, ?, ?)",
                [command.point, now.utc_us, now.boot, now.boot_s],
            )
            self._note(command.id, now, {"state": State.SENDING.value})

    def finish(self, command: Command, ending: Ending, now: Moment) -> None:
        """Note what became of a command; the first time counts."""
        with self.writing() as db:
            done = db.execute(
                "UPDATE commands SET state = ?, detail = ?, finished_us = ?"
                " WHERE id = ? AND state IN (?, ?)",
                [ending.state.value, ending.detail, now.utc_us, command.id,
                 State.WAITING.value, State.SENDING.value],
            )  # fmt: skip
            if not done.rowcount:
                return
            self._rearrange(ending)
            entry = {"state": ending.state.value, "detail": ending.detail, "point": command.point}
            self._note(command.id, now, entry)

    def free(self, slot: Slot, now: Moment, why: str) -> None:
        """Note that a hold is over, and that this is to be written."""
        place = (slot.point, slot.priority)
        with self.writing():
            self._rearrange(Ending(State.DONE, freed=(place,), owes=(place,)))
            self._note(slot.command, now, {"freed": slot.point, "detail": why})

    def forgive(self, place: Place, now: Moment, why: str) -> None:
        """Note that there is nothing to write where something was owed."""
        with self.writing():
            self._rearrange(Ending(State.DONE, paid=(place,)))
            self._note(b"", now, {"forgiven": place[0], "detail": why})

    def told(self, id_: bytes) -> None:
        """Note that central knows what became of a command."""
        with self.writing() as db:
            db.execute("UPDATE commands SET is_told = 1 WHERE id = ?", [id_])

    def rows(self, query: str, values: Sequence[Any] = ()) -> list[dict[str, Any]]:
        """Read rows. Raises `CommandsUnwritable` where the disk fails."""
        try:
            with self._turn:
                return list(self._db.query(query, values))
        except sqlite3.Error as error:
            raise CommandsUnwritable(f"the commands cannot be read ({error})") from error

    @contextmanager
    def writing(self) -> Iterator[Database]:
        """Write in one transaction. Raises `CommandsUnwritable` with nothing changed."""
        try:
            with self._turn, self._db.atomic():
                yield self._db
        except sqlite3.Error as error:
            msg = f"commands cannot be stored ({error}): none is carried out"
            raise CommandsUnwritable(msg) from error

    def _records(self, where: str, values: Sequence[Any], order: str = "number") -> list[Record]:
        query = f"SELECT {_FIELDS} FROM commands WHERE {where} ORDER BY {order}"  # noqa: S608 - our own names
        return [_record(row) for row in self.rows(query, values)]

    def _rearrange(self, ending: Ending) -> None:
        for place in ending.freed:
            self._db.execute("DELETE FROM slots WHERE point = ? AND priority = ?", place)
        if ending.held is not None:
            self._hold(ending.held)
        for place in ending.paid:
            self._db.execute("DELETE FROM owed WHERE point = ? AND priority = ?", place)
        for place in ending.owes:
            self._db.execute("INSERT OR IGNORE INTO owed VALUES (?, ?)", place)

    def _hold(self, slot: Slot) -> None:
        lease: tuple[Any, ...] = (None, None, None)
        if slot.lease is not None:
            lease = (slot.lease.until_us, slot.lease.boot, slot.lease.until_s)
        self._db.execute(
            "INSERT OR REPLACE INTO slots VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [slot.point, slot.priority, json.dumps(slot.value), slot.command, slot.source.value,
             slot.actor, slot.since_us, *lease],
        )  # fmt: skip

    def _note(self, id_: bytes, now: Moment, entry: Mapping[str, Any]) -> None:
        audit.note(self._db, now.utc_us, {"id": id_.hex(), **entry})


def _forget(db: Database, now_us: int) -> None:
    """Forget the oldest beyond what is kept, and that all of their time is over."""
    oldest = list(
        db.query(
            "SELECT number, expires_us FROM commands WHERE expires_us < ?"
            " AND state NOT IN ('waiting', 'sending')"
            " AND number <= (SELECT max(number) FROM commands) - ? ORDER BY number LIMIT 100",
            [now_us, KEPT],
        )
    )
    if not oldest:
        return
    db.execute(
        "INSERT INTO facts VALUES ('floor_us', ?)"
        " ON CONFLICT (name) DO UPDATE SET value = max(value, excluded.value)",
        [max(row["expires_us"] for row in oldest)],
    )
    db.execute(
        f"DELETE FROM commands WHERE number IN ({','.join('?' * len(oldest))})",  # noqa: S608 - marks
        [row["number"] for row in oldest],
    )


def _opened(connection: sqlite3.Connection) -> Database:
    connection.execute("PRAGMA journal_mode = DELETE")
    connection.execute("PRAGMA synchronous = EXTRA")
    (checked,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if checked != "ok":
        raise sqlite3.DatabaseError(str(checked))
    db = Database(connection)
    MIGRATIONS.apply(db)
    return db


_DAMAGE: Final = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def _record(row: Mapping[str, Any]) -> Record:
    accepted = Moment(row["accepted_us"], row["boot"], row["boot_s"])
    asked = Asked.model_construct(**json.loads(row["asked"]))
    command = Command(bytes(row["id"]), asked, Source(row["source"]), accepted, row["number"])
    return Record(command, State(row["state"]), row["detail"], row["finished_us"])


def _slot(row: Mapping[str, Any]) -> Slot:
    lease = None
    if row["until_us"] is not None:
        lease = Lease(row["until_us"], row["boot"], row["until_s"])
    return Slot(
        row["point"], row["priority"], json.loads(row["value"]), bytes(row["command"]),
        Source(row["source"]), row["actor"], row["since_us"], lease,
    )  # fmt: skip
