"""The schema of the configuration database, as migrations that only go forward."""

from typing import Final

from sqlite_utils import Database
from sqlite_utils.migrations import Migrations

MIGRATIONS: Final = Migrations("config")


@MIGRATIONS(name="0001_revisions")
def revisions(db: Database) -> None:
    """Make the tables of revisions, proposals and facts."""
    for statement in _FIRST:
        db.execute(statement)


@MIGRATIONS(name="0002_proposals_of_central")
def proposals_of_central(db: Database) -> None:
    """Let a proposal be a revision of central."""
    db.execute("ALTER TABLE proposals ADD COLUMN central INTEGER NOT NULL DEFAULT 0")


@MIGRATIONS(name="0003_secrets")
def secrets(db: Database) -> None:
    """Make the table of sealed secrets."""
    db.execute("CREATE TABLE secrets (name TEXT PRIMARY KEY, sealed BLOB NOT NULL) STRICT")


@MIGRATIONS(name="0004_checkouts")
def checkouts(db: Database) -> None:
    """Make the tables of check-outs, their points, and what was found."""
    for statement in _CHECKOUTS:
        db.execute(statement)


_CHECKOUTS: Final = (
    """
    CREATE TABLE checkouts (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        title TEXT NOT NULL,
        by TEXT NOT NULL,
        at_us INTEGER NOT NULL,
        closed_us INTEGER
    ) STRICT
    """,
    """
    CREATE TABLE checkout_items (
        checkout INTEGER NOT NULL,
        position INTEGER NOT NULL,
        key TEXT NOT NULL,
        device TEXT NOT NULL,
        unit TEXT NOT NULL,
        type TEXT NOT NULL,
        PRIMARY KEY (checkout, key)
    ) STRICT, WITHOUT ROWID
    """,
    """
    CREATE TABLE checkout_records (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        checkout INTEGER NOT NULL,
        key TEXT NOT NULL,
        expected TEXT NOT NULL,
        tolerance REAL,
        value REAL,
        text TEXT,
        quality INTEGER,
        observed_at INTEGER,
        verdict TEXT NOT NULL,
        note TEXT NOT NULL,
        by TEXT NOT NULL,
        at_us INTEGER NOT NULL
    ) STRICT
    """,
    "CREATE INDEX records_of_a_point ON checkout_records (checkout, key)",
)

_FIRST: Final = (
    """
    CREATE TABLE revisions (
        number INTEGER PRIMARY KEY,
        hash BLOB NOT NULL,
        document BLOB NOT NULL,
        source TEXT NOT NULL,
        reason TEXT NOT NULL,
        at_us INTEGER NOT NULL,
        state TEXT NOT NULL,
        previous INTEGER NOT NULL,
        central INTEGER NOT NULL
    ) STRICT
    """,
    "CREATE UNIQUE INDEX one_is_current ON revisions (state) WHERE state = 'current'",
    """
    CREATE TABLE proposals (
        number INTEGER PRIMARY KEY,
        base INTEGER NOT NULL,
        hash BLOB NOT NULL,
        document BLOB NOT NULL,
        source TEXT NOT NULL,
        reason TEXT NOT NULL,
        at_us INTEGER NOT NULL,
        state TEXT NOT NULL
    ) STRICT
    """,
    "CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT",
    "CREATE TABLE counters (name TEXT PRIMARY KEY, seq INTEGER NOT NULL) STRICT",
    "INSERT INTO counters VALUES ('revisions', 0), ('proposals', 0)",
)
