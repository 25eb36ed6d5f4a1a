-- How much work waits for a worker, in all indexes together, for an autoscaler: jobs that can be claimed now, marks, rows
-- that a first backfill has not reached (by an estimate), and one for each other backfill or build of an index that isn't
-- finished. Jobs that failed for good, that a worker has claimed, or that wait for their next attempt don't count. Never
-- NULL, and 100,000 also stands for more. Takes no lock that it could have to wait for. Every role can call it.
CREATE FUNCTION semantic.backlog() RETURNS integer
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off SET jit = off
AS $body$
    -- SECURITY DEFINER tells a role no more than the statistics of the tables, which Postgres shows to every role. Ordered
    -- index scans end at the limit, whatever the planner thinks of a queue of millions.
    WITH served AS MATERIALIZED (
        SELECT generation.*, semantic_index.source
        FROM semantic.generation
        JOIN semantic.semantic_index ON semantic_index.id = generation.index_id
        JOIN pg_class AS source ON source.oid = semantic_index.source
        JOIN pg_class AS stored ON stored.oid = generation.chunks
    )
    SELECT CAST(count(*) AS integer) FROM (
        -- the rows that a first backfill hasn't reached have no jobs; one that compares is done by one worker
        SELECT FROM served
        CROSS JOIN LATERAL generate_series(
            1,
            CASE WHEN stale_since IS NULL
                THEN least(greatest(semantic.rows_estimate_v1(source) - backfill_rows, 1), 100000)
                ELSE 1
            END
        )
        WHERE backfilled_at IS NULL
        UNION ALL
        SELECT FROM served WHERE semantic.lacks_index_v1(id)
        UNION ALL
        SELECT FROM semantic.job JOIN served ON served.id = job.generation_id
        WHERE state = 'processing' AND lease_until < now()  -- its worker was lost
        UNION ALL
        SELECT FROM served
        CROSS JOIN (VALUES (CAST(0 AS smallint)), (CAST(1 AS smallint))) AS kind (priority)
        CROSS JOIN LATERAL (
            SELECT FROM semantic.job
            WHERE job.generation_id = served.id AND job.priority = kind.priority AND state = 'pending'
              AND available_at <= now()
            ORDER BY available_at
            LIMIT 100000
        ) AS pending
        UNION ALL
        SELECT FROM served
        CROSS JOIN (VALUES (CAST(0 AS smallint)), (CAST(1 AS smallint))) AS kind (priority)
        CROSS JOIN LATERAL (
            SELECT FROM semantic.mark
            WHERE mark.generation_id = served.id AND mark.priority = kind.priority
            ORDER BY marked_at
            LIMIT 100000
        ) AS marked
        LIMIT 100000
    ) AS waiting
$body$;
