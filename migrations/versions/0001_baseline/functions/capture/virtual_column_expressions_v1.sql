-- How the virtual generated columns of an index are computed, in its table and in partitions; NULL if it has none.
-- The comment on the capture function has the same text until an expression changes.
CREATE FUNCTION semantic.virtual_column_expressions_v1(known_index integer) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $body$
    SELECT string_agg(
        format('%s.%I: %s', part.relid, attname, pg_get_expr(adbin, adrelid)), '; ' ORDER BY part.relid, attname
    )
    FROM semantic.semantic_index
    CROSS JOIN LATERAL semantic.partition_tree_v1(source) AS part
    JOIN pg_attribute ON attrelid = part.relid AND attgenerated = 'v'
    JOIN pg_attrdef ON adrelid = part.relid AND adnum = attnum
    WHERE semantic_index.id = known_index AND attname IN (
        SELECT jsonb_array_elements_text(spec -> 'columns') FROM semantic.generation WHERE index_id = known_index
    )
$body$;
