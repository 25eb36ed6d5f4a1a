-- Makes a copy with this role live. The one that was live becomes `previous`, or `next` when a switch is rolled back.
CREATE FUNCTION semantic.switch_generation_v1(generation_id integer, switched text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $body$
DECLARE
    stem text;
    of_source regclass;
    becomes text := CASE switched WHEN 'next' THEN 'previous' ELSE 'next' END;
    live semantic.generation;
    chosen semantic.generation;
BEGIN
    PERFORM semantic.lock_tables_v1('ACCESS EXCLUSIVE', VARIADIC ARRAY(
        SELECT part.relation
        FROM semantic.generation AS one
        CROSS JOIN LATERAL (VALUES (1, one.receipts), (2, one.chunks)) AS part (place, relation)
        WHERE one.index_id = another.index_id AND (one.role = 'live' OR one.id = generation_id)
        ORDER BY one.id, part.place  -- the order of a DELETE
    ))
    FROM semantic.generation AS another  -- before rows of the registry, so that no worker waits for those
    WHERE another.id = generation_id AND another.role = switched AND switched <> 'live';
    SELECT * INTO chosen FROM semantic.generation WHERE id = generation_id AND role = switched FOR UPDATE;
    SELECT * INTO live FROM semantic.generation WHERE index_id = chosen.index_id AND role = 'live' FOR UPDATE;
    SELECT name, source INTO stem, of_source FROM semantic.semantic_index WHERE id = chosen.index_id;
    IF live.id IS NULL OR chosen.id IS NULL OR switched = 'live' THEN
        RAISE EXCEPTION 'generation % is no longer %: another session has changed it', generation_id, switched
        USING ERRCODE = 'object_not_in_prerequisite_state';
    ELSIF EXISTS (SELECT FROM semantic.generation WHERE index_id = live.index_id AND role = becomes) THEN
        RAISE EXCEPTION 'semantic index % already has a % generation', stem, becomes
        USING ERRCODE = 'object_not_in_prerequisite_state',
            HINT = format('Drop it first: pg-semantic generation drop %s %s.', stem, becomes);
    END IF;
    PERFORM semantic.require_text_columns_v1(of_source, chosen.spec, false);
    PERFORM semantic.rename_table_and_indexes_v1(relation, stem, stem || '__' || becomes)
    FROM unnest(ARRAY[live.chunks, live.receipts]) AS relation;
    PERFORM semantic.rename_table_and_indexes_v1(relation, stem || '__' || switched, stem)
    FROM unnest(ARRAY[chosen.chunks, chosen.receipts]) AS relation;
    UPDATE semantic.generation SET role = becomes, role_since = now() WHERE id = live.id;
    UPDATE semantic.generation SET role = 'live', role_since = now() WHERE id = chosen.id;
    PERFORM semantic.apply_privileges_v1(chosen.index_id);
END
$body$;
