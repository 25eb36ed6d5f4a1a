-- Renames a table and its partitions, and the indexes that are named after them.
CREATE FUNCTION semantic.rename_table_and_indexes_v1(relation regclass, stem text, new_stem text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $body$
DECLARE
    named record;
BEGIN
    FOR named IN
        WITH part AS MATERIALIZED (
            SELECT CAST(relation AS oid) AS oid UNION ALL SELECT inhrelid FROM pg_inherits WHERE inhparent = relation
        )
        SELECT 'INDEX' AS kind, CAST(CAST(indexrelid AS regclass) AS text) AS old, relname AS name
        FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid
        WHERE indrelid IN (SELECT oid FROM part) AND starts_with(relname, stem)
        UNION ALL
        SELECT 'TABLE', CAST(CAST(oid AS regclass) AS text), relname
        FROM pg_class
        WHERE oid IN (SELECT oid FROM part) AND starts_with(relname, stem)
    LOOP
        EXECUTE format(
            'ALTER %s %s RENAME TO %I', named.kind, named.old, new_stem || substr(named.name, length(stem) + 1)
        );
    END LOOP;
END
$body$;
