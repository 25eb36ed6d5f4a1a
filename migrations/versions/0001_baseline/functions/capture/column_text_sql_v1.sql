-- The expression of a text column in a transition table. One that may be missing is looked up by its name.
CREATE FUNCTION semantic.column_text_sql_v1(alias text, name text, is_there boolean) RETURNS text
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
RETURN format(
    CASE WHEN is_there THEN 'CAST(%1$s.%2$I AS TEXT) COLLATE "C"' ELSE 'pg_catalog.to_jsonb(%1$s) ->> %2$L' END,
    alias, name
);
