-- Creates the partitioned chunk table of a copy again, with the current key of its source, and copies its chunks: ALTER
-- TABLE cannot change the type of a column that a table is partitioned by. Leaves the vector index to a worker.
CREATE FUNCTION semantic.copy_partitioned_chunks_v1(generation_id integer) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $body$
DECLARE
    old regclass;
    stem text;
    place text;
    made text;
    due record;
BEGIN
    SELECT chunks, relname, format('%I', nspname), format('%I.%I', nspname, relname) INTO old, stem, place, made
    FROM semantic.generation
    JOIN pg_class ON pg_class.oid = chunks
    JOIN pg_namespace ON pg_namespace.oid = relnamespace
    WHERE generation.id = copy_partitioned_chunks_v1.generation_id;
    PERFORM semantic.rename_table_and_indexes_v1(old, stem, stem || '__old');
    FOR due IN
        SELECT 1 AS number, format('CREATE TABLE %s (%s) PARTITION BY %s', made, string_agg(part, ', '), pg_get_partkeydef(old)) AS step
        FROM semantic.table_elements_v1(generation_id, stem || '__old', stem) AS part
        UNION ALL
        SELECT 2, format('CREATE TABLE %s.%I PARTITION OF %s %s', place, stem || substr(relname, length(stem || '__old') + 1),
                         made, pg_get_expr(relpartbound, pg_class.oid))
        FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid
        WHERE inhparent = old
        UNION ALL
        SELECT 3, format('INSERT INTO %s (%s) SELECT %s FROM %s', made, string_agg(quote_ident(attname), ', ' ORDER BY attnum),
                         string_agg(CASE WHEN wanted IS NULL THEN quote_ident(attname) ELSE format(
                             'CAST(%I AS %s)', attname, regexp_replace(wanted, ' COLLATE .*', '')
                         ) END, ', ' ORDER BY attnum), old)
        FROM pg_attribute
        JOIN semantic.generation ON generation.chunks = attrelid
        LEFT JOIN semantic.altered_key_columns_v1(index_id) ON relation = old AND part = attname
        WHERE attrelid = old AND attnum > 0 AND NOT attisdropped
        UNION ALL
        SELECT 4, format('CREATE INDEX %I ON %s %s', stem || substr(relname, length(stem || '__old') + 1), made,
                         substring(pg_get_indexdef(indexrelid) FROM ' (USING .*)$'))
        FROM pg_index
        JOIN pg_class ON pg_class.oid = indexrelid
        JOIN pg_am ON pg_am.oid = relam
        WHERE indrelid = old AND NOT indisprimary AND amname <> 'hnsw'
        UNION ALL
        SELECT 5, replace(pg_get_triggerdef(oid), format(' ON %s ', old), format(' ON %s ', made))
        FROM pg_trigger
        WHERE tgrelid = old AND NOT tgisinternal
        UNION ALL
        SELECT 6, format('COMMENT ON TABLE %s IS %L', made, obj_description(old, 'pg_class'))
        ORDER BY number, step
    LOOP
        EXECUTE due.step;
    END LOOP;
    UPDATE semantic.generation SET chunks = CAST(made AS regclass) WHERE generation.chunks = old;
    EXECUTE format('DROP TABLE %s', old);
END
$body$;
