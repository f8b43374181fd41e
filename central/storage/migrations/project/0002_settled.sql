-- How far the log was read, and what became of every batch.

CREATE TABLE log_positions (
    topic text NOT NULL,
    log_partition int4 NOT NULL,
    log_id text NOT NULL,
    next_offset int8 NOT NULL,
    PRIMARY KEY (topic, log_partition)
) WITH (fillfactor = 50);

-- delivered + collapsed + quarantined count the readings of all batches in seqs. This table is the
-- receipt: see docs/decisions/0002-settled-is-the-receipt.md.
CREATE TABLE settled (
    gateway_id int4 NOT NULL,
    epoch int8 NOT NULL,
    seqs int8multirange NOT NULL DEFAULT '{}',
    delivered int8 NOT NULL DEFAULT 0,
    collapsed int8 NOT NULL DEFAULT 0,
    quarantined int8 NOT NULL DEFAULT 0,
    version int8 NOT NULL DEFAULT 0,
    PRIMARY KEY (gateway_id, epoch)
) WITH (fillfactor = 50);

-- One row whose lock is held from taking a version to the commit: versions become visible in order.
CREATE TABLE settled_clock (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    version int8 NOT NULL
) WITH (fillfactor = 10);
INSERT INTO settled_clock (version) VALUES (0);

CREATE TABLE gaps (
    gateway_id int4 NOT NULL,
    gap_id bytea NOT NULL CHECK (octet_length(gap_id) = 16),
    epoch int8 NOT NULL,
    seq int8 NOT NULL,
    cause text NOT NULL,
    reason text NOT NULL,
    points int4multirange NOT NULL,
    from_at timestamptz NOT NULL,
    to_at timestamptz NOT NULL,
    count int8,
    missed int8,
    voided jsonb NOT NULL,
    overtaken jsonb NOT NULL,
    received_at timestamptz NOT NULL,
    PRIMARY KEY (gateway_id, gap_id)
);
CREATE INDEX gaps_to ON gaps (to_at);
COMMENT ON COLUMN gaps.count IS 'readings lost (dropped), 0 for missed polls, NULL where unknown';
COMMENT ON COLUMN gaps.overtaken IS 'what of voided was settled before the gap was told of';

CREATE TABLE events_other (
    gateway_id int4 NOT NULL,
    epoch int8 NOT NULL,
    seq int8 NOT NULL,
    ordinal int4 NOT NULL,
    event text NOT NULL,
    body bytea NOT NULL,
    received_at timestamptz NOT NULL,
    PRIMARY KEY (gateway_id, epoch, seq, ordinal)
);
COMMENT ON COLUMN events_other.body IS 'the event as it came, a msgpack map';

CREATE TABLE quarantine (
    gateway_id int4 NOT NULL,
    epoch int8 NOT NULL,
    seq int8 NOT NULL,
    kind text NOT NULL,
    code text NOT NULL,
    detail text NOT NULL,
    count int8 NOT NULL,
    point_set bytea NOT NULL,
    body bytea NOT NULL,
    received_at timestamptz NOT NULL,
    PRIMARY KEY (gateway_id, epoch, seq)
);
ALTER TABLE quarantine ALTER COLUMN body SET STORAGE EXTERNAL;

-- Records of the log that are not ours to read; nothing is settled by them.
CREATE TABLE dead_letters (
    topic text NOT NULL,
    log_id text NOT NULL,
    log_partition int4 NOT NULL,
    log_offset int8 NOT NULL,
    detail text NOT NULL,
    body bytea NOT NULL,
    found_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (topic, log_id, log_partition, log_offset)
);

-- Which (minute, block of 256 points) changed; appended only, taken by who computes rollups.
CREATE TABLE dirty_marks (
    minute timestamptz NOT NULL,
    block int4 NOT NULL
);
