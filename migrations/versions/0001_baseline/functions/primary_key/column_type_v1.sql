-- The type of a column with its collation, as ALTER TABLE takes it; for a domain, the type that it is based on.
CREATE FUNCTION semantic.column_type_v1(relation oid, part name) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $body$
    SELECT concat(format_type(coalesce(under.base, atttypid), coalesce(under.modifier, atttypmod)), place.name)
    FROM pg_attribute
    JOIN pg_type ON pg_type.oid = atttypid
    LEFT JOIN LATERAL semantic.base_type_v1(atttypid) AS under ON typtype = 'd'
    LEFT JOIN LATERAL (
        SELECT format(' COLLATE %I.%I', nspname, collname)
        FROM pg_collation JOIN pg_namespace ON pg_namespace.oid = collnamespace
        WHERE pg_collation.oid = attcollation
    ) AS place (name) ON true
    WHERE attrelid = relation AND attname = part
$body$;
