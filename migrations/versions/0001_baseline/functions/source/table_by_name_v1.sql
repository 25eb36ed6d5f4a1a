-- The table with this name. A view with the old name of a table that was renamed doesn't count.
CREATE FUNCTION semantic.table_by_name_v1(name text) RETURNS regclass
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
RETURN (SELECT CAST(oid AS regclass) FROM pg_class WHERE oid = to_regclass(name) AND relkind IN ('r', 'p'));
