-- Whether a table has no bytes on disk, so that it never had a row since it was created or truncated.
CREATE FUNCTION semantic.was_never_written_v1(relation regclass) RETURNS boolean
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
RETURN (SELECT relkind IN ('r', 'p') AND pg_relation_size(oid) = 0 FROM pg_class WHERE oid = relation);
