-- Deletes the chunks and receipts of a partition's rows from every index of its table, so that the partition can be
-- detached and dropped.
CREATE FUNCTION semantic.release_partition(partition regclass) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $body$
DECLARE
    held record;
BEGIN
    FOR held IN
        SELECT part.relation,
               semantic.key_equality_sql_v1(semantic_index.source, generation.spec, 'held.', 'source.') AS same_key
        FROM semantic.semantic_index
        JOIN semantic.generation ON generation.index_id = semantic_index.id
        CROSS JOIN LATERAL (VALUES (generation.chunks), (generation.receipts)) AS part (relation)
        WHERE semantic_index.source IN (SELECT relid FROM pg_partition_ancestors(partition))
          AND semantic_index.source <> partition
    LOOP
        EXECUTE format(
            'DELETE FROM %s AS held USING %s AS source WHERE %s', held.relation, partition, held.same_key
        );
    END LOOP;
END
$body$;
