-- The lock that all our DDL on a user's table begins with. A session that waits for a lock makes others wait behind
-- it. So this waits for a fifth of a second, releases what it has locked, and tries again after a pause, for as long
-- as lock_wait_seconds_v1 says. A transaction that has locked a table that others write to doesn't try again, because they
-- would wait in the meantime. Cancels builds of late indexes, whose locks last for minutes; a worker starts them
-- again.
CREATE FUNCTION semantic.lock_tables_v1(mode text, VARIADIC relations regclass[]) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $body$
DECLARE
    deadline timestamptz := clock_timestamp() + make_interval(secs => semantic.lock_wait_seconds_v1());
    longest_pause double precision := 0.05;
    pause double precision;
    is_last boolean := EXISTS (
        SELECT FROM pg_locks
        WHERE pid = pg_backend_pid() AND granted AND locktype = 'relation'
          AND pg_locks.mode IN ('ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')
          AND (relation = ANY (relations) OR relation IN (SELECT source FROM semantic.semantic_index))
    );
    first_holders text[];
    holders text[];
BEGIN
    IF mode NOT IN ('SHARE ROW EXCLUSIVE', 'ACCESS EXCLUSIVE') THEN
        RAISE EXCEPTION 'lock mode % is unknown', quote_literal(mode) USING ERRCODE = 'invalid_parameter_value';
    END IF;
    LOOP
        PERFORM pg_cancel_backend(build.pid)
        FROM pg_stat_progress_create_index AS build
        JOIN pg_stat_activity AS builder ON builder.pid = build.pid
        LEFT JOIN pg_inherits ON inhrelid = build.relid
        WHERE mode = 'ACCESS EXCLUSIVE' AND build.datname = current_database()
          AND coalesce(inhparent, build.relid) = ANY (relations)
          AND coalesce(inhparent, build.relid) IN (SELECT unnest(ARRAY[chunks, receipts]) FROM semantic.generation)
          AND pg_has_role(builder.usesysid, 'USAGE');
        BEGIN
            PERFORM semantic.try_lock_tables_v1(mode, relations);
            RETURN;
        EXCEPTION WHEN lock_not_available OR deadlock_detected THEN
            holders := semantic.lock_holders_v1(mode, relations);
            first_holders := coalesce(first_holders, holders);
            pause := random() * longest_pause;
            IF is_last OR clock_timestamp() + make_interval(secs => pause + 0.2) > deadline THEN
                RAISE EXCEPTION 'tables (%) are in use by other transactions (pid: %)',
                    (SELECT string_agg(DISTINCT CAST(locked AS text), ', ') FROM unnest(relations) AS locked),
                    coalesce(
                        (SELECT string_agg(pid, ', ') FROM unnest(holders) AS pid WHERE pid = ANY (first_holders)),
                        nullif(array_to_string(holders, ', '), ''),
                        'already ended'
                    )
                USING ERRCODE = 'lock_not_available',
                    HINT = CASE WHEN is_last
                        THEN 'This transaction has locked other tables, so it cannot wait for these: do this in '
                            'a separate transaction. '
                        ELSE '' END
                        || 'Try again when the other transactions have ended, or end one with '
                            'SELECT pg_terminate_backend(pid).';
            END IF;
        END;
        PERFORM pg_sleep(pause);
        longest_pause := least(1, longest_pause * 2);
    END LOOP;
END
$body$;
