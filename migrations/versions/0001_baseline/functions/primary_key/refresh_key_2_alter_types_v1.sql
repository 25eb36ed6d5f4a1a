-- The second step: gives the tables of all copies of an index the current key of its source, with ALTER TABLE on
-- each, and recreates what depends on a key. Searches wait; writers don't, because the source is not locked. A large
-- vector index is dropped before its table is rewritten, and a worker builds it again. Rows that the server has
-- rejected so far are tried again.
CREATE FUNCTION semantic.refresh_key_2_alter_types_v1(known_index integer, key jsonb) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $body$
DECLARE
    due record;
BEGIN
    PERFORM semantic.lock_tables_v1(
        'ACCESS EXCLUSIVE', VARIADIC array_remove(semantic.relations_in_lock_order_v1(known_index, NULL), source)
    )
    FROM semantic.semantic_index
    WHERE id = known_index;
    PERFORM semantic.drop_search_function_v1(known_index);
    FOR due IN
        SELECT format('DROP VIEW semantic.%I', relname) AS step, 1 AS number
        FROM semantic.generation
        JOIN pg_class ON pg_class.oid IN (
            to_regclass('semantic.chunks_' || generation.id), to_regclass('semantic.receipts_' || generation.id)
        )
        WHERE index_id = known_index
        UNION ALL
        SELECT format('DROP POLICY %I ON %s', polname, CAST(polrelid AS regclass)), 2
        FROM semantic.generation
        JOIN pg_policy ON polrelid IN (generation.chunks, generation.receipts)
        WHERE index_id = known_index
          AND starts_with(obj_description(pg_policy.oid, 'pg_policy'), 'Made and followed by pg_semantic')
        UNION ALL
        SELECT format('DROP INDEX %s', CAST(indexrelid AS regclass)), 3
        FROM semantic.generation
        JOIN pg_index ON indrelid = generation.chunks
        JOIN pg_class ON pg_class.oid = indexrelid AND pg_relation_size(indexrelid) > 16000000
        JOIN pg_am ON pg_am.oid = relam AND amname = 'hnsw'
        WHERE index_id = known_index AND EXISTS (
            SELECT FROM semantic.altered_key_columns_v1(known_index) WHERE relation = generation.chunks AND NOT quick
        )
        UNION ALL
        SELECT format('ALTER TABLE %s %s', relation, string_agg(
            format('ALTER COLUMN %1$I TYPE %2$s USING CAST(%1$I AS %3$s)', part, wanted,
                   regexp_replace(wanted, ' COLLATE .*', '')), ', ')), 4
        FROM semantic.altered_key_columns_v1(known_index)
        JOIN pg_class ON pg_class.oid = relation AND relkind = 'r'
        GROUP BY relation
        UNION ALL
        SELECT DISTINCT format('SELECT semantic.copy_partitioned_chunks_v1(%s)', generation_id), 5
        FROM semantic.altered_key_columns_v1(known_index)
        JOIN pg_class ON pg_class.oid = relation AND relkind = 'p'
        ORDER BY number, step
    LOOP
        EXECUTE due.step;
    END LOOP;
    UPDATE semantic.generation SET spec = jsonb_set(spec, '{key}', refresh_key_2_alter_types_v1.key) WHERE index_id = known_index;
    PERFORM semantic.create_views_v1(id) FROM semantic.generation WHERE index_id = known_index ORDER BY id;
    PERFORM semantic.create_search_function_v1(known_index);
    UPDATE semantic.job
    SET state = 'pending', attempts = 0, error = NULL, available_at = now()
    FROM semantic.generation
    WHERE generation.index_id = known_index AND job.generation_id = generation.id
      AND state = 'failed' AND error LIKE '%(SQLSTATE %)';
END
$body$;
