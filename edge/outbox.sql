-- The outbox: sealed segments in the order of their commits, and what is known beyond them.
-- A segment's id is its epoch's base plus its seq, so finding (epoch, seq) needs no index of its own:
-- every page that a commit touches is one more page worn on a memory card.
CREATE TABLE epochs (
    epoch INTEGER PRIMARY KEY,
    base INTEGER NOT NULL,
    settled INTEGER NOT NULL DEFAULT 0,
    dropped INTEGER NOT NULL DEFAULT 0,
    delivered INTEGER NOT NULL DEFAULT 0,
    collapsed INTEGER NOT NULL DEFAULT 0,
    quarantined INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE TABLE segments (
    id INTEGER PRIMARY KEY,
    epoch INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    kind TEXT NOT NULL,
    count INTEGER NOT NULL,
    t0 INTEGER NOT NULL,
    t1 INTEGER NOT NULL,
    crc INTEGER NOT NULL,
    point_set BLOB NOT NULL,
    tokens BLOB,
    body BLOB NOT NULL,
    class INTEGER NOT NULL DEFAULT 1
) STRICT;

CREATE TABLE point_sets (
    hash BLOB PRIMARY KEY,
    points BLOB NOT NULL
) STRICT, WITHOUT ROWID;

-- One row: all that has to outlive the segments that are deleted, up to and including segment `upto`.
CREATE TABLE tail (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    upto INTEGER NOT NULL,
    body BLOB NOT NULL
) STRICT;

-- What was brought before the clock was set, until it is.
CREATE TABLE held (
    id INTEGER PRIMARY KEY,
    boot TEXT NOT NULL,
    real_us INTEGER NOT NULL,
    readings INTEGER NOT NULL,
    body BLOB NOT NULL
) STRICT;

CREATE TABLE refused (
    epoch INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    code TEXT NOT NULL,
    detail TEXT NOT NULL,
    at_us INTEGER NOT NULL,
    PRIMARY KEY (epoch, seq)
) STRICT, WITHOUT ROWID;
