-- The privileges that roles should have on the objects of an index: its readers to what they can read in the source, and
-- the owner of the source to objects that belong to another role.
CREATE FUNCTION semantic.wanted_privileges_v1(known_index integer)
RETURNS TABLE (part oid, target text, role oid, privilege text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $body$
    WITH part AS MATERIALIZED (
        SELECT parts.*, CASE WHEN kind IN ('VIEW', 'PARTITION') THEN 'TABLE' ELSE kind END || ' ' || name AS target
        FROM semantic.index_objects_v1(known_index) AS parts
    ),
    reader AS MATERIALIZED (
        SELECT id AS generation_id, found.reader AS role
        FROM semantic.generation CROSS JOIN LATERAL semantic.readers_v1(id) AS found (reader)
        WHERE index_id = known_index
    )
    SELECT part.part, target, role, privilege FROM part JOIN reader USING (generation_id)
    WHERE privilege IS NOT NULL AND role <> owner
    UNION
    SELECT part.part, target, relowner, unnest(
        CASE kind WHEN 'FUNCTION' THEN ARRAY['EXECUTE'] ELSE ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE'] END
    )
    FROM part
    CROSS JOIN (
        SELECT relowner FROM semantic.semantic_index JOIN pg_class ON pg_class.oid = source
        WHERE semantic_index.id = known_index
    ) AS source
    WHERE owner <> relowner AND kind <> 'PARTITION'
$body$;
