-- The `policy_column` column of a generation as it is in the source, unless that is part of the key; `attnum` is NULL if
-- the source has no such column. With the key columns by name and by number.
CREATE FUNCTION semantic.policy_column_v1(generation_id integer) RETURNS TABLE (
    chunks regclass, receipts regclass, source regclass, name text, attnum smallint, attnotnull boolean, type text,
    columns text, all_columns text, numbers smallint[]
)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $body$
    SELECT generation.chunks, generation.receipts, source, spec ->> 'policy_column' AS name, attnum, attnotnull,
           concat_ws(
               ' COLLATE ', format_type(atttypid, atttypmod),
               CAST(CAST(nullif(attcollation, 0) AS regcollation) AS text)
           ) AS type,
           key.columns, key.columns || ', ' || quote_ident(attname) AS all_columns, key.numbers
    FROM semantic.generation
    JOIN semantic.semantic_index ON semantic_index.id = generation.index_id
    CROSS JOIN LATERAL (
        SELECT string_agg(quote_ident(attname), ', ' ORDER BY part.number) AS columns, array_agg(attnum) AS numbers,
               array_agg(CAST(attname AS text)) AS names
        FROM jsonb_array_elements(spec -> 'key') WITH ORDINALITY AS part (value, number)
        JOIN pg_attribute ON attrelid = source AND attname = part.value ->> 'name'
    ) AS key
    LEFT JOIN pg_attribute
        ON attrelid = source AND attname = spec ->> 'policy_column' AND attnum > 0 AND NOT attisdropped
    WHERE generation.id = policy_column_v1.generation_id AND spec ->> 'policy_column' IS NOT NULL
      AND spec ->> 'policy_column' <> ALL (key.names)
$body$;
