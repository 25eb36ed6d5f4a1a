-- What replaces the marks in the template of a capture function: its name, the generations, the condition that two rows
-- have the same key, and the text of the old and the new row. Quotes are doubled, since the marks are in a string.
CREATE FUNCTION semantic.capture_template_values_v1(known_index integer, index_source regclass, function_name text)
RETURNS TABLE (mark text, filling text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $body$
    SELECT '/*function*/' AS mark, format('%I.%I', nspname, capture_template_values_v1.function_name) AS filling
    FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
    WHERE pg_class.oid = index_source
    UNION ALL
    SELECT '/*generations*/', CAST(array_agg(id ORDER BY id) AS text)
    FROM semantic.generation
    WHERE index_id = known_index
    UNION ALL
    SELECT '/*generation_rows*/', string_agg(format('(%s)', id), ', ' ORDER BY id)
    FROM semantic.generation
    WHERE index_id = known_index
    UNION ALL
    SELECT '/*same_key*/', replace(
        semantic.old_and_new_key_equality_sql_v1(
            index_source,
            ARRAY(SELECT part ->> 'name' FROM jsonb_array_elements(generation.spec -> 'key') AS part)
        ),
        '''', ''''''
    )
    FROM semantic.generation
    WHERE index_id = known_index AND role = 'live'
    UNION ALL
    SELECT rows.mark, replace(
        coalesce(string_agg(
            format(
                CASE WHEN read.there OR read.by_live THEN 'CAST(%1$s.%2$I AS TEXT) COLLATE "C"'
                    ELSE 'pg_catalog.to_jsonb(%1$s) ->> %2$L' END,
                rows.alias, read.name
            ),
            ', ' ORDER BY read.name
        ), 'NULL'),
        '''', ''''''
    )
    FROM (VALUES ('/*old_text*/', 'old_rows'), ('/*new_text*/', 'new_rows')) AS rows (mark, alias)
    LEFT JOIN semantic.captured_columns_v1(known_index, index_source) AS read ON true
    GROUP BY rows.mark
$body$;
