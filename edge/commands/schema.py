"""The schema of the commands' database, as migrations that only go forward."""

from typing import Final

from sqlite_utils import Database
from sqlite_utils.migrations import Migrations

MIGRATIONS: Final = Migrations("commands")


@MIGRATIONS(name="0001_commands")
def commands(db: Database) -> None:
    """Make the tables of commands, of the priority array and of the audit."""
    for statement in _FIRST:
        db.execute(statement)


_FIRST: Final = (
    """
    CREATE TABLE commands (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        id BLOB NOT NULL UNIQUE,
        digest BLOB NOT NULL,
        asked TEXT NOT NULL,
        point TEXT NOT NULL,
        source TEXT NOT NULL,
        accepted_us INTEGER NOT NULL,
        boot TEXT NOT NULL,
        boot_s REAL NOT NULL,
        expires_us INTEGER NOT NULL,
        state TEXT NOT NULL,
        detail TEXT NOT NULL,
        finished_us INTEGER NOT NULL,
        is_told INTEGER NOT NULL
    ) STRICT
    """,
    "CREATE INDEX open_commands ON commands (state) WHERE state IN ('waiting', 'sending')",
    "CREATE INDEX untold_commands ON commands (number) WHERE is_told = 0",
    """
    CREATE TABLE slots (
        point TEXT NOT NULL,
        priority INTEGER NOT NULL,
        value TEXT NOT NULL,
        command BLOB NOT NULL,
        source TEXT NOT NULL,
        actor TEXT NOT NULL,
        since_us INTEGER NOT NULL,
        until_us INTEGER,
        boot TEXT,
        until_s REAL,
        PRIMARY KEY (point, priority)
    ) STRICT
    """,
    """
    CREATE TABLE owed (
        point TEXT NOT NULL,
        priority INTEGER NOT NULL,
        PRIMARY KEY (point, priority)
    ) STRICT
    """,
    """
    CREATE TABLE written (
        point TEXT PRIMARY KEY,
        at_us INTEGER NOT NULL,
        boot TEXT NOT NULL,
        boot_s REAL NOT NULL
    ) STRICT
    """,
    "CREATE TABLE facts (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT",
    """
    CREATE TABLE audit (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        at_us INTEGER NOT NULL,
        entry TEXT NOT NULL,
        previous BLOB NOT NULL,
        hash BLOB NOT NULL
    ) STRICT
    """,
    """
    CREATE TRIGGER audit_stays BEFORE UPDATE ON audit
    BEGIN SELECT RAISE(ABORT, 'the audit is not changed'); END
    """,
)
