-- The columns that any copy of an index reads, whether they exist, and whether the live copy reads them.
CREATE FUNCTION semantic.source_columns_v1(known_index integer) RETURNS TABLE (name text, there boolean, by_live boolean)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $body$
    SELECT named.value, count(attname) > 0, bool_or(generation.role = 'live')
    FROM semantic.semantic_index
    JOIN semantic.generation ON generation.index_id = semantic_index.id
    CROSS JOIN jsonb_array_elements_text(generation.spec -> 'columns') AS named (value)
    LEFT JOIN pg_attribute
        ON attrelid = semantic_index.source AND attname = named.value AND attnum > 0 AND NOT attisdropped
    WHERE semantic_index.id = known_index
    GROUP BY named.value
$body$;
