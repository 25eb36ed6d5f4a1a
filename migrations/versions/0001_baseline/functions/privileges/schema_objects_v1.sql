-- The objects of the schema with their owners and privileges. The views of generations are left out.
CREATE FUNCTION semantic.schema_objects_v1() RETURNS TABLE (object text, owner oid, acl aclitem[], of_column name)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp SET quote_all_identifiers = off
AS $body$
    SELECT 'SCHEMA semantic', nspowner, coalesce(nspacl, acldefault('n', nspowner)), CAST(NULL AS name)
    FROM pg_namespace WHERE nspname = 'semantic'
    UNION ALL
    SELECT CASE relkind WHEN 'S' THEN 'SEQUENCE ' ELSE 'TABLE ' END || CAST(CAST(oid AS regclass) AS text),
           relowner,
           coalesce(relacl, acldefault(CASE relkind WHEN 'S' THEN CAST('s' AS "char") ELSE 'r' END, relowner)),
           NULL
    FROM pg_class
    WHERE relnamespace = CAST('semantic' AS regnamespace) AND relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
      AND relname !~ '^(chunks|receipts)_[0-9]+$'
    UNION ALL
    SELECT 'TABLE ' || CAST(CAST(attrelid AS regclass) AS text), relowner, attacl, attname
    FROM pg_class
    JOIN pg_attribute ON attrelid = pg_class.oid AND attacl IS NOT NULL AND NOT attisdropped
    WHERE relnamespace = CAST('semantic' AS regnamespace) AND relname !~ '^(chunks|receipts)_[0-9]+$'
    UNION ALL
    SELECT 'ROUTINE ' || CAST(CAST(oid AS regprocedure) AS text), proowner,
           coalesce(proacl, acldefault('f', proowner)), NULL
    FROM pg_proc WHERE pronamespace = CAST('semantic' AS regnamespace)
$body$;
