-- Creates the views of a copy and sets the privileges on it. A view runs with the privileges of its caller; the privileges on the
-- source decide who can use it.
CREATE FUNCTION semantic.create_views_v1(generation_id integer) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $body$
DECLARE
    shown record;
BEGIN
    PERFORM semantic.add_policy_column_v1(generation_id);
    FOR shown IN
        SELECT 'chunks_' || id AS name, chunks AS relation FROM semantic.generation WHERE id = generation_id
        UNION ALL
        SELECT 'receipts_' || id, receipts FROM semantic.generation WHERE id = generation_id
    LOOP
        EXECUTE format(
            'CREATE VIEW semantic.%I WITH (security_invoker) AS SELECT * FROM %s', shown.name, shown.relation
        );
    END LOOP;
    PERFORM semantic.apply_privileges_v1(index_id, false, ARRAY(
        SELECT part.name FROM semantic.index_objects_v1(index_id) AS part WHERE part.generation_id = generation.id
    ))
    FROM semantic.generation
    WHERE id = create_views_v1.generation_id;
END
$body$;
