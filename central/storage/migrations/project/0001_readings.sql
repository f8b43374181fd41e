-- One project's readings. The runner has set search_path to the project's schema.

-- Column order keeps a row at 24 + 24 bytes; the one index is all there is: <= 90 bytes a reading.
CREATE TABLE readings (
    observed_at timestamptz NOT NULL,
    value float8,
    point_id int4 NOT NULL,
    quality int2 NOT NULL
);
CREATE UNIQUE INDEX readings_point_time ON readings (point_id, observed_at) WITH (fillfactor = 100);
COMMENT ON COLUMN readings.value IS 'NULL: the reading has no value (bad quality, or a text)';

CREATE TABLE readings_texts (
    point_id int4 NOT NULL,
    observed_at timestamptz NOT NULL,
    text text NOT NULL,
    PRIMARY KEY (point_id, observed_at)
);

CREATE TABLE latest (
    point_id int4 PRIMARY KEY,
    observed_at timestamptz NOT NULL,
    received_at timestamptz NOT NULL,
    value float8,
    quality int2 NOT NULL,
    text text
) WITH (fillfactor = 50);

-- Which of two readings of one (point, observed_at) survives, the same in any order: corrected
-- first, then the better quality class, then the larger value; then anything that is fixed.
CREATE FUNCTION outranks(
    quality int2, value float8, text text, other_quality int2, other_value float8, other_text text
) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN (
    quality & 2048, -least(quality >> 12 & 3, 2), coalesce(value, '-Infinity'),
    -quality, coalesce(text, '')
) > (
    other_quality & 2048, -least(other_quality >> 12 & 3, 2), coalesce(other_value, '-Infinity'),
    -other_quality, coalesce(other_text, '')
);
