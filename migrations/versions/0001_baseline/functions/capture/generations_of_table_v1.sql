-- The generations of a semantic index, found by its source or by a partition of the source.
CREATE FUNCTION semantic.generations_of_table_v1(relation regclass, index_name text) RETURNS integer[]
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $body$
BEGIN
    RETURN ARRAY(
        SELECT generation.id
        FROM semantic.semantic_index
        JOIN semantic.generation ON generation.index_id = semantic_index.id
        WHERE semantic_index.name = index_name
          AND semantic_index.source = ANY (
              relation || ARRAY(SELECT relid FROM pg_partition_ancestors(relation))
          )
    );
END
$body$;
