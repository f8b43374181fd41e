-- The log of the local profile. Offsets are given out under the topic's row lock, held to commit:
-- what a reader sees below next_offset is therefore complete.
CREATE SCHEMA log;

CREATE TABLE log.topics (
    topic_id int4 GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    topic text NOT NULL UNIQUE,
    log_id text NOT NULL,
    first_offset int8 NOT NULL DEFAULT 0,
    next_offset int8 NOT NULL DEFAULT 0
) WITH (fillfactor = 50);

CREATE TABLE log.records (
    topic_id int4 NOT NULL,
    record_offset int8 NOT NULL,
    appended_at timestamptz NOT NULL DEFAULT now(),
    record_key bytea NOT NULL,
    record_value bytea NOT NULL,
    PRIMARY KEY (topic_id, record_offset)
);
ALTER TABLE log.records ALTER COLUMN record_value SET STORAGE EXTERNAL;
