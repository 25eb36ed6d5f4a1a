-- The name of the search function of an index, and what replaces the names in braces in its template. A key column with
-- the name of an argument or of another result column is called key_... in the result. Names that would still be given
-- twice, or that were equal once they are cut to the length of a name, get the column's number instead.
CREATE FUNCTION semantic.search_function_template_values_v1(known_index integer)
RETURNS TABLE (function_name text, places jsonb)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $body$
    SELECT format('%I.%I', nspname, index.name || '_search'), jsonb_build_object(
        'chunks', quote_literal(format('%I.%I', nspname, index.name)) || '::regclass',
        'min_score', '$' || 4 + count(*),
        'filtered', string_agg(format('$%s IS NOT NULL', 3 + number), ' OR ' ORDER BY number),
        'keys', string_agg(format('$%s', 3 + number), ', ' ORDER BY number),
        'filters', string_agg(
            format('%I %s[] DEFAULT NULL', CASE WHEN argument_is_taken THEN 'keys_' || number ELSE argument END, given),
            ', ' ORDER BY number
        ),
        'checked', CASE WHEN count(*) > 1 THEN format(
            ' PERFORM semantic.require_equal_lengths_v1(ARRAY[%s]);',
            string_agg(format('cardinality($%s)', 3 + number), ', ' ORDER BY number)
        ) ELSE '' END,
        'types', string_agg(given || '[]', ', ' ORDER BY number),
        'found', string_agg(
            format('%I %s', CASE WHEN result_is_taken THEN 'key_' || number ELSE result END, type), ', ' ORDER BY number
        )
    )
    FROM semantic.semantic_index AS index
    JOIN semantic.generation AS live ON live.index_id = index.id AND live.role = 'live'
    JOIN pg_class AS chunks ON chunks.oid = live.chunks
    JOIN pg_namespace ON pg_namespace.oid = chunks.relnamespace
    CROSS JOIN LATERAL (
        SELECT *,
               count(*) OVER (PARTITION BY argument) > 1 OR argument = ANY (array_agg(result) OVER ())
                   AS argument_is_taken,
               result ~ '^[$]\d+$' OR count(*) OVER (PARTITION BY result) > 1
                   OR result = ANY (array_agg(argument) OVER ()) AS result_is_taken
        FROM (
            SELECT number, format_type(atttypid, NULL) AS type,
                   CASE WHEN typcategory IN ('A', 'C') THEN 'text' ELSE format_type(atttypid, NULL) END AS given,
                   CASE WHEN jsonb_array_length(live.spec -> 'key') > 1 THEN CAST('keys_' || attname AS name)
                       ELSE 'keys' END AS argument,
                   CASE WHEN attname IN (
                       'query', 'k', 'mode', 'keys', 'min_score', 'score', 'passage', 'ordinal', 'asked'
                   ) THEN CAST('key_' || attname AS name) ELSE attname END AS result
            FROM jsonb_array_elements(live.spec -> 'key') WITH ORDINALITY AS part (value, number)
            JOIN pg_attribute ON attrelid = index.source AND attname = part.value ->> 'name'
            JOIN pg_type ON pg_type.oid = atttypid
        ) AS named
    ) AS key
    WHERE index.id = known_index
    GROUP BY nspname, index.name
$body$;
