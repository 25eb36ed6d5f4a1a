-- Creates the capture functions, which mark a row for all copies when a column that any of them reads changes. Waits for
-- writers whose changes were not marked for all copies. If a copy that is not live reads a missing column, writes
-- continue as if it didn't; if the column comes back, all rows are checked for that copy.
CREATE FUNCTION semantic.create_capture_functions_v1(index_name text, index_source regclass) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $body$
DECLARE
    known_index integer := (
        SELECT id FROM semantic.semantic_index WHERE name = index_name AND source = index_source
    );
    places jsonb;
BEGIN
    IF semantic.move_to_source_schema_sql_v1(known_index) IS NOT NULL THEN
        RAISE EXCEPTION 'table % is in another schema than semantic index %', index_source, index_name
        USING ERRCODE = 'object_not_in_prerequisite_state',
            HINT = format('Move all of it next to the table: %s.', semantic.move_to_source_schema_sql_v1(known_index));
    END IF;
    PERFORM semantic.lock_tables_v1('SHARE ROW EXCLUSIVE', index_source);
    places := semantic.capture_template_values_v1(known_index);
    PERFORM semantic.create_capture_function_v1(
        known_index, '', semantic.render_statement_trigger_v1(places),
        (
            SELECT semantic.depends_on_settings_v1(semantic.current_spec_v1(spec, chunks))
            FROM semantic.generation
            WHERE index_id = known_index AND role = 'live'
        )
    );
    PERFORM semantic.create_capture_function_v1(
        known_index, '_replica', semantic.render_template_v1(semantic.row_trigger_body_v1(), places), true
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
