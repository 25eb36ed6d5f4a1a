-- The planner's estimate over all partitions; NULL before the first ANALYZE or autovacuum.
CREATE FUNCTION semantic.rows_estimate_v1(relation regclass) RETURNS bigint
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $body$
    SELECT sum(reltuples)::bigint
    FROM pg_class
    WHERE oid IN (SELECT relation UNION SELECT relid FROM pg_partition_tree(relation) WHERE isleaf)
      AND relkind <> 'p' AND reltuples >= 0
$body$;
