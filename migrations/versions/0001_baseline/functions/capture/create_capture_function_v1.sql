-- Creates the capture function, which marks a row for all copies when a column that any of them reads changes; only
-- the registry knows these columns. Waits for writers whose changes were not marked for all copies. If a copy that is
-- not live reads a missing column, writes continue as if it didn't; if the column comes back, all rows are checked
-- for that copy.
CREATE FUNCTION semantic.create_capture_function_v1(index_name text, index_source regclass, function_name text, statement text)
RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $body$
DECLARE
    known_index integer := (
        SELECT id FROM semantic.semantic_index WHERE name = index_name AND source = index_source
    );
    place record;
BEGIN
    IF semantic.move_to_source_schema_sql_v1(known_index) IS NOT NULL THEN
        RAISE EXCEPTION 'table % is in another schema than semantic index %', index_source, index_name
        USING ERRCODE = 'object_not_in_prerequisite_state',
            HINT = format('Move all of it next to the table: %s.', semantic.move_to_source_schema_sql_v1(known_index));
    END IF;
    PERFORM semantic.lock_tables_v1('SHARE ROW EXCLUSIVE', index_source);
    FOR place IN SELECT * FROM semantic.capture_template_values_v1(known_index, index_source, function_name) LOOP
        statement := replace(statement, place.mark, place.filling);
    END LOOP;
    EXECUTE statement;
    EXECUTE (
        SELECT format(
            'COMMENT ON FUNCTION %I.%I() IS %L', nspname, function_name, semantic.virtual_column_expressions_v1(known_index)
        )
        FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
        WHERE pg_class.oid = index_source
    );
    PERFORM semantic.apply_privileges_v1(
        known_index, false,
        ARRAY(SELECT part.name FROM semantic.index_objects_v1(known_index) AS part WHERE part.kind = 'FUNCTION')
    );
    INSERT INTO semantic.mark (generation_id)
    SELECT DISTINCT generation.id
    FROM semantic.generation
    JOIN semantic.source_columns_v1(known_index) AS read ON generation.spec -> 'columns' ? read.name
    WHERE generation.index_id = known_index AND generation.role <> 'live' AND NOT read.there;
END
$body$;
