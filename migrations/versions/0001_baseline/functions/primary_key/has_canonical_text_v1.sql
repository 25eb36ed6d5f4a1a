-- Whether equal keys always have the same text. Numeric 1.0 and 1.00 are equal and do not.
CREATE FUNCTION semantic.has_canonical_text_v1(spec jsonb) RETURNS boolean
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
RETURN (
    SELECT bool_and(part ->> 'type' ~*
        '^(smallint|integer|bigint|oid|uuid|boolean|date|bytea|time(stamp)?(\(\d\))?( with(out)? time zone)?)$')
    FROM jsonb_array_elements(spec -> 'key') AS part
);
