-- The keys that a search is restricted to, from parameters 5 and up, as a table called given. Keys that are arrays or
-- records are passed as text, because unnest would split these too.
CREATE FUNCTION semantic.key_filter_sql_v1(spec jsonb) RETURNS text
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
RETURN (
    SELECT format(
        '(SELECT %s FROM unnest(%s) AS listed (%s)) AS given',
        string_agg(format('CAST(%1$I AS %2$s) AS %1$I', part.value ->> 'name',
                          split_part(part.value ->> 'type', ' COLLATE ', 1)), ', ' ORDER BY number),
        string_agg('$' || number + 4, ', ' ORDER BY number),
        string_agg(quote_ident(part.value ->> 'name'), ', ' ORDER BY number)
    )
    FROM jsonb_array_elements(spec -> 'key') WITH ORDINALITY AS part (value, number)
);
