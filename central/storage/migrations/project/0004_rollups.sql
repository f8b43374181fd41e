-- What readings of windows of time amount to. A gateway tells its own (source edge); central never
-- writes to those. A window may be told in parts, before and after a stop or for readings that came
-- late: parts add up.

CREATE TABLE rollups (
    point_id int4 NOT NULL,
    width_us int8 NOT NULL CHECK (width_us > 0),
    start timestamptz NOT NULL,
    source text NOT NULL CHECK (source IN ('edge', 'central')),
    count int8 NOT NULL,
    good_count int8 NOT NULL,
    sum float8 NOT NULL,
    min float8,
    max float8,
    mean float8,
    first float8,
    last float8,
    first_at timestamptz,
    last_at timestamptz,
    known_us int8 NOT NULL,
    PRIMARY KEY (point_id, width_us, start, source)
) WITH (fillfactor = 90);
COMMENT ON COLUMN rollups.count IS 'all readings of the window; the other numbers are of good ones';
COMMENT ON COLUMN rollups.mean IS 'weighted by time over the known_us in which the value was known';

ALTER TABLE gaps ADD COLUMN rollups int8 NOT NULL DEFAULT 0;
COMMENT ON COLUMN gaps.rollups IS 'rollups lost with, or instead of, readings';
