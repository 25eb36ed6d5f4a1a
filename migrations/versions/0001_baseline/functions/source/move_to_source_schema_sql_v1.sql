-- The statements that move the objects of an index to the schema that its source was moved to; NULL if they are
-- there.
CREATE FUNCTION semantic.move_to_source_schema_sql_v1(known_index integer) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $body$
    SELECT string_agg(
        format('ALTER %s %s SET SCHEMA %I', part.kind, part.name, nspname), '; ' ORDER BY part.kind DESC, part.name
    ) || CASE WHEN bool_or(part.kind = 'FUNCTION') AND to_regproc('semantic.create_search_function_v1') IS NOT NULL
        THEN format('; SELECT semantic.create_search_function_v1(%s)', known_index) ELSE ''
    END
    FROM semantic.semantic_index
    JOIN pg_class AS source ON source.oid = semantic_index.source
    JOIN pg_namespace ON pg_namespace.oid = source.relnamespace
    CROSS JOIN LATERAL (
        SELECT 'TABLE' AS kind, CAST(CAST(pg_class.oid AS regclass) AS text) AS name, relnamespace AS place
        FROM semantic.generation
        LEFT JOIN pg_inherits ON inhparent = generation.chunks
        JOIN pg_class ON pg_class.oid IN (generation.chunks, generation.receipts, inhrelid)
        WHERE generation.index_id = semantic_index.id
        UNION
        SELECT 'FUNCTION', CAST(CAST(pg_proc.oid AS regprocedure) AS text), pg_proc.pronamespace
        FROM pg_trigger
        JOIN pg_proc AS capture ON capture.oid = tgfoid
        JOIN pg_proc ON pg_proc.oid = tgfoid
            OR pg_proc.pronamespace = capture.pronamespace AND pg_proc.proname = semantic_index.name || '_search'
                AND position('semantic.search_sql_v1(asked' IN pg_proc.prosrc) > 0
        WHERE tgrelid = source.oid
          AND capture.proname IN (semantic_index.name || '_capture', semantic_index.name || '_capture_replica')
    ) AS part (kind, name, place)
    WHERE semantic_index.id = known_index AND part.place <> source.relnamespace
$body$;
