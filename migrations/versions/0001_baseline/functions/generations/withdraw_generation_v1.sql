-- Takes back a copy that was begun, whether it is live by now or not. If it is, the copy before it is live again.
-- That may not be the one that this copy replaced, which may never have been live.
CREATE FUNCTION semantic.withdraw_generation_v1(
    index_name text, index_source regclass, target jsonb, was jsonb
) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $body$
DECLARE
    known_index integer := (
        SELECT id FROM semantic.semantic_index WHERE name = index_name AND source = index_source
    );
BEGIN
    PERFORM semantic.lock_tables_v1('ACCESS EXCLUSIVE', VARIADIC semantic.relations_in_lock_order_v1(known_index, NULL));
    PERFORM semantic.switch_generation_v1(previous.id, 'previous')
    FROM semantic.generation AS previous
    JOIN semantic.generation AS live ON live.index_id = known_index AND live.role = 'live'
    WHERE previous.index_id = known_index AND previous.role = 'previous'
      AND semantic.spec_without_names_v1(live.spec) = semantic.spec_without_names_v1(target);
    PERFORM semantic.delete_generation_v1(id, true)
    FROM semantic.generation
    WHERE index_id = known_index AND role = 'next' AND semantic.spec_without_names_v1(spec) = semantic.spec_without_names_v1(target);
    IF EXISTS (
        SELECT FROM semantic.generation
        WHERE index_id = known_index AND role = 'live' AND semantic.spec_without_names_v1(spec) <> semantic.spec_without_names_v1(was)
    ) THEN
        IF NOT FOUND THEN
            RAISE EXCEPTION 'semantic index % cannot go back: the previous copy was dropped or has changed',
                index_name
            USING ERRCODE = 'object_not_in_prerequisite_state',
                HINT = 'Declare the index as you want it, and write a migration for that.';
        END IF;
        RAISE WARNING 'semantic index % is back at an older copy than the one that this change replaced',
            index_name
        USING HINT = 'To get the replaced copy back, begin it again.';
    END IF;
END
$body$;
