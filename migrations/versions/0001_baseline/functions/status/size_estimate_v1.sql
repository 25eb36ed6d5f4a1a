-- The planner's estimate of the size of a table with all its partitions, without TOAST and indexes. Takes no locks.
CREATE FUNCTION semantic.size_estimate_v1(relation regclass) RETURNS bigint
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $body$
    SELECT sum(greatest(relpages, 0))::bigint * current_setting('block_size')::bigint
    FROM semantic.tables_v1(relation) AS part
$body$;
