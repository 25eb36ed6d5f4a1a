-- What replaces the names in braces in the templates of the capture functions of an index.
CREATE FUNCTION semantic.capture_template_values_v1(known_index integer) RETURNS jsonb
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $body$
    SELECT jsonb_build_object(
        'old_key', semantic.key_text_sql_v1(known.spec, 'old_rows.'),
        'new_key', semantic.key_text_sql_v1(known.spec, 'new_rows.'),
        'same_key', semantic.old_and_new_key_equality_sql_v1(known.source, known.key),
        'other_row', format('(old_rows.%1$I IS NULL OR new_rows.%1$I IS NULL)', known.key[1]),
        'or_other_key', CASE WHEN NOT semantic.has_canonical_text_v1(known.spec) THEN format(
            'OR (%s) COLLATE "C" <> (%s) COLLATE "C"',
            semantic.key_text_sql_v1(known.spec, 'old_rows.'), semantic.key_text_sql_v1(known.spec, 'new_rows.')
        ) END,
        'or_policy_column', (
            SELECT string_agg(format(
                'OR CAST(new_rows.%1$I AS text) COLLATE "C" IS DISTINCT FROM CAST(old_rows.%1$I AS text) COLLATE "C"',
                carried.name
            ), ' ' ORDER BY carried.name)
            FROM (
                SELECT DISTINCT spec ->> 'policy_column' AS name FROM semantic.generation WHERE index_id = known_index
            ) AS carried
            WHERE carried.name <> ALL (known.key)
        ),
        'generations', CAST(known.generations AS text),
        'generation_rows', (SELECT string_agg(format('(%s)', id), ', ') FROM unnest(known.generations) AS id),
        'old_text', coalesce(texts.old_rows, 'NULL'),
        'new_text', coalesce(texts.new_rows, 'NULL')
    )
    FROM (
        SELECT source, current.spec,
               ARRAY(SELECT value ->> 'name' FROM jsonb_array_elements(generation.spec -> 'key')) AS key,
               ARRAY(SELECT id FROM semantic.generation WHERE index_id = known_index ORDER BY id) AS generations
        FROM semantic.semantic_index
        JOIN semantic.generation ON generation.index_id = semantic_index.id AND role = 'live'
        CROSS JOIN LATERAL semantic.current_spec_v1(generation.spec, generation.chunks) AS current (spec)
        WHERE semantic_index.id = known_index
    ) AS known
    CROSS JOIN LATERAL (
        SELECT string_agg(semantic.column_text_sql_v1('old_rows', read.name, read.there OR read.by_live), ', '
                          ORDER BY read.name) AS old_rows,
               string_agg(semantic.column_text_sql_v1('new_rows', read.name, read.there OR read.by_live), ', '
                          ORDER BY read.name) AS new_rows
        FROM semantic.captured_columns_v1(known_index, known.source) AS read
    ) AS texts
$body$;
