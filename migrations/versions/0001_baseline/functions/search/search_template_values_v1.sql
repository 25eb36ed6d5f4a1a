-- What replaces the names in braces in the templates of a search.
CREATE FUNCTION semantic.search_template_values_v1(generation integer, depth integer, filtered boolean) RETURNS jsonb
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $body$
    SELECT jsonb_build_object(
        'key', semantic.key_column_list_v1(spec, ''),
        'source_key', semantic.key_column_list_v1(spec, 'source.'),
        'chunk_of_source', semantic.key_equality_sql_v1(source, spec, 'chunk.', 'source.'),
        'chunk_of_found', semantic.key_equality_sql_v1(source, spec, 'chunk.', 'found.'),
        'other_of_chunk', semantic.key_equality_sql_v1(source, spec, 'other.', 'chunk.'),
        'source_of_matched', semantic.key_equality_sql_v1(source, spec, 'source.', 'matched.'),
        'dense_is_lexical', semantic.key_equality_sql_v1(source, spec, 'dense.', 'lexical.'),
        'either_key', (
            SELECT string_agg(format('coalesce(dense.%1$I, lexical.%1$I) AS %1$I', part ->> 'name'), ', ')
            FROM jsonb_array_elements(spec -> 'key') AS part
        ),
        'receipt_key', semantic.key_column_list_v1(spec, 'receipt.'),
        'found_key', semantic.key_column_list_v1(spec, 'found.'),
        'source', CASE relkind WHEN 'p' THEN '' ELSE 'ONLY ' END || source,
        'chunks', 'semantic.chunks_' || id,
        'receipts', 'semantic.receipts_' || id,
        'generation', id,
        'depth', depth,
        'ef_search', least(greatest(depth * 2, coalesce(chosen, 100)), 1000),
        'filter', CASE WHEN filtered THEN format(
            'EXISTS (SELECT FROM %s WHERE %s)',
            semantic.key_filter_sql_v1(spec), semantic.key_equality_sql_v1(source, spec, 'source.', 'given.')
        ) ELSE 'true' END,
        'filtered', filtered,
        'config', format('CAST(%L AS regconfig)', spec #>> '{lexical,config}'),
        'k1', format('CAST(%L AS double precision)', spec #>> '{lexical,k1}'),
        'b', format('CAST(%L AS double precision)', spec #>> '{lexical,b}'),
        'vector', format('CAST($1 AS %I.%I)', nspname, spec ->> 'storage'),
        'distance', format('OPERATOR(%I.<=>)', nspname),
        'product', format('OPERATOR(%I.<#>)', nspname)
    ) || semantic.first_stage_values_v1(spec, id, depth, nspname)
    FROM (
        SELECT nspname FROM pg_extension JOIN pg_namespace ON pg_namespace.oid = extnamespace
        WHERE extname = 'vector'
    ) AS pgvector
    CROSS JOIN (
        SELECT generation.id, semantic.current_spec_v1(spec, chunks) AS spec, source, relkind, recall.ef_search AS chosen
        FROM semantic.generation
        LEFT JOIN semantic.recall ON generation_id = generation.id
        JOIN semantic.semantic_index ON semantic_index.id = generation.index_id
        JOIN pg_class ON pg_class.oid = source
        WHERE generation.id = search_template_values_v1.generation
    ) AS known
$body$;
