-- The tables that store the rows of a relation, which are itself or its partitions: the planner's number of rows, -1 before
-- the first ANALYZE; the number of rows in the server's statistics, 0 if these were lost; and the size without TOAST and
-- indexes. That is the planner's, or the real one before the first ANALYZE, and NULL while that can't be read without
-- waiting for a lock.
CREATE FUNCTION semantic.rows_estimate_parts_v1(relation regclass)
RETURNS TABLE (stored oid, planned double precision, live bigint, bytes bigint)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $body$
    SELECT
        pg_class.oid, reltuples, pg_stat_get_live_tuples(pg_class.oid),
        CASE
            WHEN relpages > 0 THEN relpages * current_setting('block_size')::bigint
            WHEN pg_class.oid <> ALL (
                ARRAY(
                    SELECT locked.relation FROM pg_locks AS locked
                    WHERE locked.mode = 'AccessExclusiveLock' AND locked.relation IS NOT NULL
                        AND locked.database = (SELECT oid FROM pg_database WHERE datname = current_database())
                )
            ) THEN pg_relation_size(pg_class.oid)
        END
    FROM semantic.tables_v1(rows_estimate_parts_v1.relation) AS pg_class
    WHERE relkind <> 'p'
$body$;
