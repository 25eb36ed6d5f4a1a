-- A table and its partitions on all levels, as the catalog knows them. Unlike pg_partition_tree, takes no locks.
CREATE FUNCTION semantic.tables_v1(relation regclass) RETURNS SETOF pg_class
LANGUAGE sql STABLE ROWS 5 SET search_path = pg_catalog, pg_temp
AS $body$
    WITH RECURSIVE part (oid) AS (
        SELECT CAST(relation AS oid)
        UNION ALL
        SELECT inhrelid FROM part JOIN pg_inherits ON inhparent = part.oid
    )
    SELECT pg_class.* FROM part JOIN pg_class USING (oid) WHERE relispartition OR pg_class.oid = relation
$body$;
