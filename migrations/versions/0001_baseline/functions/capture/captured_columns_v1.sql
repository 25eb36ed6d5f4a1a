-- The columns that capture compares. A virtual generated column (PostgreSQL 18) is in no transition table, so the
-- columns that it is computed from stand in for it. Each partition may compute it in its own way.
CREATE FUNCTION semantic.captured_columns_v1(known_index integer, index_source regclass)
RETURNS TABLE (name text, there boolean, by_live boolean)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $body$
    WITH virtual AS (
        SELECT generated.attname AS name, pg_attrdef.oid AS expression, part.relid
        FROM (SELECT index_source AS relid UNION SELECT relid FROM pg_partition_tree(index_source)) AS part
        JOIN pg_attribute AS generated ON generated.attrelid = part.relid AND generated.attgenerated = 'v'
        JOIN pg_attrdef ON adrelid = part.relid AND adnum = generated.attnum
    )
    SELECT name, there, by_live
    FROM semantic.source_columns_v1(known_index)
    WHERE name NOT IN (SELECT virtual.name FROM virtual)
    UNION
    SELECT base.attname, true, true
    FROM semantic.source_columns_v1(known_index) AS read
    JOIN virtual ON virtual.name = read.name
    JOIN pg_depend
        ON classid = CAST('pg_attrdef' AS regclass) AND objid = virtual.expression
        AND refclassid = CAST('pg_class' AS regclass) AND refobjid = virtual.relid AND refobjsubid > 0
    JOIN pg_attribute AS base
        ON base.attrelid = virtual.relid AND base.attnum = refobjsubid AND base.attgenerated = ''
$body$;
