-- Checks that an index is in the state that a change expects: its live copy, or the copy that is being built, which
-- is then dropped in favor of the new one.
CREATE FUNCTION semantic.require_state_v1(index_name text, index_source regclass, was jsonb) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $body$
DECLARE
    known_index integer := (
        SELECT id FROM semantic.semantic_index WHERE name = index_name AND source = index_source
    );
    newest record;
BEGIN
    PERFORM semantic.delete_generations_without_tables_v1(known_index);
    SELECT id, role, semantic.spec_without_names_v1(spec) AS recipe INTO newest
    FROM semantic.generation
    WHERE index_id = known_index AND role IN ('live', 'next')
    ORDER BY role DESC
    LIMIT 1;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'there is no semantic index % on table %', index_name, index_source
        USING ERRCODE = 'undefined_object';
    ELSIF newest.recipe <> semantic.spec_without_names_v1(was) THEN
        RAISE EXCEPTION 'semantic index % is not what this change expects: its % copy is %, not %',
            index_name, newest.role, newest.recipe, semantic.spec_without_names_v1(was)
        USING ERRCODE = 'object_not_in_prerequisite_state',
            HINT = 'If a copy is being built, switch to it or drop it first.';
    ELSIF newest.role = 'next' THEN
        PERFORM semantic.delete_generation_v1(newest.id, true);
    ELSE
        PERFORM semantic.lock_tables_v1('SHARE ROW EXCLUSIVE', index_source);
    END IF;
END
$body$;
