-- The size of a table with all its partitions, without TOAST and indexes: the planner's, or the real one before the first
-- ANALYZE. NULL while that can't be read without waiting for a lock.
CREATE FUNCTION semantic.size_estimate_v1(relation regclass) RETURNS bigint
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $body$
    SELECT CASE WHEN bool_and(bytes IS NOT NULL) THEN sum(bytes)::bigint END FROM semantic.rows_estimate_parts_v1(relation)
$body$;
