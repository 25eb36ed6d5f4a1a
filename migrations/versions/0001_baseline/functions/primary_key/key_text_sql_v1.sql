-- The expression of a row's key as text, as the job table stores it: the only column, or a JSON array of all.
CREATE FUNCTION semantic.key_text_sql_v1(spec jsonb, alias text) RETURNS text
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $body$
    SELECT CASE count(*)
        WHEN 1 THEN format('CAST(%s AS text) COLLATE "C"', min(part.name))
        ELSE format('CAST(jsonb_build_array(%s) AS text)', string_agg(
            format('CAST(%s AS text)', part.name), ', ' ORDER BY part.number
        ))
    END
    FROM (
        SELECT alias || quote_ident(value ->> 'name') AS name, number
        FROM jsonb_array_elements(spec -> 'key') WITH ORDINALITY AS key (value, number)
    ) AS part
$body$;
