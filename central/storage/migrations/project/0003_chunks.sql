-- Where the database has TimescaleDB, readings is a hypertable: cut into chunks by observed_at.
-- Whether it has it is asked when a function runs, not when this file is applied.

-- Owner's functions look for tables in this schema alone, never first among those a caller made.
SELECT set_config('search_path', current_schema() || ', pg_temp', true);

-- How much time a new chunk of readings spans; NULL: readings is a plain table.
CREATE FUNCTION chunk_width() RETURNS interval
LANGUAGE plpgsql STABLE SET search_path FROM CURRENT AS $$
DECLARE
    width interval;
BEGIN
    IF to_regclass('timescaledb_information.dimensions') IS NOT NULL THEN
        SELECT time_interval INTO width FROM timescaledb_information.dimensions
        WHERE hypertable_schema = current_schema() AND hypertable_name = 'readings'
        AND dimension_number = 1;
    END IF;
    RETURN width;
END
$$;

-- Rows a second of the chunks around now: of complete ones that are as wide as new ones are, and
-- begin where another ends, so that they were filled from end to end; and of the one that is being
-- filled, if there is an hour of it.
CREATE FUNCTION chunk_density(
    width interval, now_at timestamptz, OUT complete float8, OUT filling float8
)
LANGUAGE plpgsql STABLE SET search_path FROM CURRENT AS $$
BEGIN
    SELECT
        max(density) FILTER (
            WHERE range_end <= now_at AND range_end - range_start = width AND follows_another
        ),
        max(density) FILTER (WHERE range_end > now_at)
    INTO complete, filling
    FROM (
        SELECT range_start, range_end,
            lag(range_end) OVER (ORDER BY range_start) = range_start AS follows_another,
            -- 157 rows fill a page of 8 KiB.
            pg_relation_size(format('%I.%I', chunk_schema, chunk_name)::regclass) / 8192 * 157
            / extract(epoch FROM least(now_at, range_end) - range_start)::float8 AS density
        FROM timescaledb_information.chunks
        WHERE hypertable_schema = current_schema() AND hypertable_name = 'readings'
        AND range_start <= now_at - interval '1 hour' AND range_end > now_at - 4 * width
    ) AS recent;
END
$$;

-- Choose how wide new chunks are, by how densely readings come, and tell it; NULL: a plain table.
-- Widths are six hours doubled up to seven times, so that narrower chunks fit into wider ones.
--
-- A chunk is to have 20 million rows, and 5,000 a point: the index grows at as many places as there
-- are points, so what it needs in memory is a page a point however wide a chunk is, but its pages
-- become full only where a point has many of them.
--
-- Chunks become wider one step at a time, on the evidence of one that was filled from end to end;
-- narrower at once, where they are twice too wide. What lies between leaves them as they are.
CREATE FUNCTION tune_chunks(now_at timestamptz DEFAULT now()) RETURNS interval
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    narrowest CONSTANT interval := interval '6 hours';
    widest CONSTANT interval := 128 * narrowest;
    width interval := chunk_width();
    wanted_s float8;
    complete float8;
    filling float8;
    fits interval;
BEGIN
    IF width IS NULL THEN
        RETURN NULL;
    END IF;
    SELECT * INTO complete, filling FROM chunk_density(width, now_at);
    SELECT greatest(20e6, 5e3 * count(*)) / nullif(greatest(complete, filling), 0)
    INTO wanted_s FROM latest;
    IF wanted_s IS NULL THEN
        RETURN width;
    END IF;
    fits := narrowest;
    WHILE fits < widest AND extract(epoch FROM fits) < wanted_s LOOP
        fits := 2 * fits;
    END LOOP;
    IF fits < width THEN
        fits := CASE WHEN wanted_s <= extract(epoch FROM width) / 2 THEN fits ELSE width END;
    ELSIF fits > width THEN
        fits := CASE
            WHEN complete > 0 AND wanted_s >= extract(epoch FROM width) * 1.5 THEN 2 * width
            ELSE width
        END;
    END IF;
    IF fits <> width THEN
        EXECUTE format(
            'SELECT %I.set_chunk_time_interval(%L::regclass, %L::interval)',
            (
                SELECT nspname FROM pg_extension
                JOIN pg_namespace ON pg_namespace.oid = extnamespace
                WHERE extname = 'timescaledb'
            ),
            format('%I.readings', current_schema()),
            fits
        );
        width := fits;
    END IF;
    RETURN width;
END
$$;

REVOKE EXECUTE ON FUNCTION chunk_width(), chunk_density(interval, timestamptz),
tune_chunks(timestamptz) FROM PUBLIC;
DO $$
BEGIN
    EXECUTE format(
        'GRANT EXECUTE ON FUNCTION chunk_width(), tune_chunks(timestamptz) TO %I', current_schema()
    );
END
$$;
