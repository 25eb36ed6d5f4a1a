-- Deletes copies whose chunk table was dropped by hand, and the marks and jobs of copies that don't exist. Returns
-- the roles that are free now.
CREATE FUNCTION semantic.delete_generations_without_tables_v1(known_index integer) RETURNS text[]
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $body$
DECLARE
    ghosts integer[];
    roles text[];
BEGIN
    SELECT array_agg(id), array_agg(role) INTO ghosts, roles
    FROM semantic.generation
    WHERE index_id = known_index AND role <> 'live' AND NOT EXISTS (SELECT FROM pg_class WHERE oid = chunks);
    PERFORM semantic.delete_orphaned_jobs_v1(10000);  -- before anything is locked
    PERFORM semantic.delete_generation_v1(id, true) FROM unnest(ghosts) AS id;
    RETURN coalesce(roles, '{}');
END
$body$;
