-- The size of a table or an index with all its partitions, without TOAST, in bytes.
CREATE FUNCTION semantic.table_size_v1(relation regclass) RETURNS bigint
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
RETURN pg_relation_size(relation) + (
    SELECT coalesce(sum(pg_relation_size(inhrelid)), 0) FROM pg_inherits WHERE inhparent = relation
);
