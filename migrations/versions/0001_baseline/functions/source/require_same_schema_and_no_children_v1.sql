-- Rejects a table that cannot have a semantic index, or tables of an index that are not next to it.
CREATE FUNCTION semantic.require_same_schema_and_no_children_v1(index_source regclass, index_chunks regclass) RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $body$
BEGIN
    IF (SELECT count(DISTINCT relnamespace) FROM pg_class WHERE oid IN (index_source, index_chunks)) > 1 THEN
        RAISE EXCEPTION 'table % and its semantic index % would be in different schemas', index_source, index_chunks
        USING ERRCODE = 'invalid_schema_definition', HINT = 'Specify the schema of the table.';
    END IF;
    IF EXISTS (
        SELECT FROM pg_inherits JOIN pg_class ON pg_class.oid = inhparent
        WHERE inhparent = index_source AND relkind <> 'p'
    ) THEN
        RAISE EXCEPTION 'other tables inherit from table %, and foreign keys do not cover their rows', index_source
        USING ERRCODE = 'object_not_in_prerequisite_state',
            HINT = 'Create a semantic index on each child table, or use partitions instead of INHERITS.';
    END IF;
END
$body$;
