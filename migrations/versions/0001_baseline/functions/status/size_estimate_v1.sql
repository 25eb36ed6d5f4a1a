-- The planner's estimate of the size of a table with all its partitions, without TOAST and indexes. Takes no locks.
CREATE FUNCTION semantic.size_estimate_v1(relation regclass) RETURNS bigint
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $body$
    SELECT sum(relpages)::bigint * current_setting('block_size')::bigint
    FROM pg_class
    WHERE oid IN (SELECT relation UNION SELECT relid FROM pg_partition_tree(relation))
$body$;
