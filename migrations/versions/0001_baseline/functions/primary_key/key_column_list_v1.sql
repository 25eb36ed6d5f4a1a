-- The key columns of a spec, each after an alias.
CREATE FUNCTION semantic.key_column_list_v1(spec jsonb, alias text) RETURNS text
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
RETURN (
    SELECT string_agg(concat(alias, quote_ident(part.value ->> 'name')), ', ' ORDER BY number)
    FROM jsonb_array_elements(spec -> 'key') WITH ORDINALITY AS part (value, number)
);
