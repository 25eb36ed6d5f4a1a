-- A spec with the current key types of the chunk table, under their current names.
CREATE FUNCTION semantic.current_spec_v1(spec jsonb, chunks regclass) RETURNS jsonb
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
RETURN spec || jsonb_build_object('key', (
    SELECT jsonb_agg(
        part.value || jsonb_build_object('type', coalesce(format_type(atttypid, atttypmod) || CASE
            WHEN attcollation <> typcollation THEN format(' COLLATE %I.%I', nspname, collname) ELSE ''
        END, part.value ->> 'type'))
        ORDER BY part.number
    )
    FROM jsonb_array_elements(spec -> 'key') WITH ORDINALITY AS part (value, number)
    LEFT JOIN pg_attribute ON attrelid = chunks AND attname = part.value ->> 'name' AND NOT attisdropped
    LEFT JOIN pg_type ON pg_type.oid = atttypid
    LEFT JOIN pg_collation ON pg_collation.oid = attcollation
    LEFT JOIN pg_namespace ON pg_namespace.oid = collnamespace
));
