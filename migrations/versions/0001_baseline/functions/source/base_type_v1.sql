-- The type that a domain is based on, through further domains, with its length or precision. Other types are returned
-- as they are.
CREATE FUNCTION semantic.base_type_v1(kind oid) RETURNS TABLE (base oid, modifier integer)
LANGUAGE sql STABLE ROWS 1 SET search_path = pg_catalog, pg_temp
AS $body$
    WITH RECURSIVE under AS (
        SELECT oid, typtype, typbasetype, -1 AS modifier, typtypmod FROM pg_type WHERE oid = kind
        UNION ALL
        SELECT pg_type.oid, pg_type.typtype, pg_type.typbasetype, under.typtypmod, pg_type.typtypmod
        FROM under JOIN pg_type ON pg_type.oid = under.typbasetype
    )
    SELECT oid, modifier FROM under WHERE typtype <> 'd'
$body$;
