-- Whether columns of a type can be text columns: strings, enums, domains over these, and arrays of them.
CREATE FUNCTION semantic.is_text_type_v1(type oid) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $body$
    WITH RECURSIVE base AS (
        SELECT oid, typbasetype, typcategory, typelem FROM pg_type WHERE oid = type
        UNION ALL
        SELECT pg_type.oid, pg_type.typbasetype, pg_type.typcategory, pg_type.typelem
        FROM base JOIN pg_type ON pg_type.oid = base.typbasetype
    )
    SELECT base.typcategory IN ('S', 'E') OR base.oid = 18  -- "char"
        OR base.typcategory = 'A' AND semantic.is_text_type_v1(base.typelem)
    FROM base
    WHERE base.typbasetype = 0
$body$;
