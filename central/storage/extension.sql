-- What a superuser runs once in a database that is to have TimescaleDB; repeatable, and to be
-- repeated after ALTER EXTENSION … UPDATE:  psql -f extension.sql DSN
--
-- TimescaleDB lets everybody call all its functions, and some ask for no right: in 2.19 anybody may
-- drop a chunk of anybody's table (drop_chunk), and end the server with all its connections
-- (merge_chunks, in the Apache build). After this the owner alone may call what changes something.
CREATE EXTENSION IF NOT EXISTS timescaledb;

DO $$
DECLARE
    found regprocedure;
BEGIN
    FOR found IN
        SELECT routine.oid FROM pg_proc AS routine
        JOIN pg_depend ON classid = 'pg_proc'::regclass AND objid = routine.oid AND deptype = 'e'
        JOIN pg_extension ON refclassid = 'pg_extension'::regclass AND refobjid = pg_extension.oid
        WHERE extname = 'timescaledb' AND provolatile = 'v'
        AND has_function_privilege('public', routine.oid, 'EXECUTE')
    LOOP
        EXECUTE format('REVOKE EXECUTE ON ROUTINE %s FROM PUBLIC', found);
        EXECUTE format('GRANT EXECUTE ON ROUTINE %s TO spine_owner', found);
    END LOOP;
END
$$;
