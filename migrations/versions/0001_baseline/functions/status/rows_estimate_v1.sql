-- The planner's estimate over all partitions; NULL before the first ANALYZE or autovacuum. Takes no locks.
CREATE FUNCTION semantic.rows_estimate_v1(relation regclass) RETURNS bigint
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $body$
    SELECT sum(reltuples)::bigint FROM semantic.tables_v1(relation) AS part WHERE relkind <> 'p' AND reltuples >= 0
$body$;
