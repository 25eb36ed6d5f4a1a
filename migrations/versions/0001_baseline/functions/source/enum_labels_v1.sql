-- The labels of every enum that values of a type can contain: the type itself, the elements of an array, the
-- attributes of a composite type, the bounds of a range, the base type of a domain, and so on.
CREATE FUNCTION semantic.enum_labels_v1(kind oid) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $body$
    WITH RECURSIVE part AS (
        SELECT kind AS oid
        UNION
        SELECT next_part.oid
        FROM part
        JOIN pg_type ON pg_type.oid = part.oid
        CROSS JOIN LATERAL (
            SELECT typbasetype
            UNION ALL SELECT typelem
            UNION ALL SELECT atttypid FROM pg_attribute
                WHERE attrelid = typrelid AND attnum > 0 AND NOT attisdropped
            UNION ALL SELECT rngsubtype FROM pg_range WHERE pg_type.oid IN (rngtypid, rngmultitypid)
        ) AS next_part (oid)
        WHERE next_part.oid <> 0
    )
    SELECT string_agg(enumlabel, ',' ORDER BY enumtypid, enumsortorder)
    FROM part JOIN pg_enum ON enumtypid = part.oid
$body$;
