-- A table with all its partitions. ROWS is low, so that the planner looks up what is known of each one in an index.
CREATE FUNCTION semantic.partition_tree_v1(root regclass) RETURNS TABLE (relid regclass)
LANGUAGE sql STABLE ROWS 5 SET search_path = pg_catalog, pg_temp
AS $body$
    SELECT root UNION SELECT partition.relid FROM pg_partition_tree(root) AS partition
$body$;
