-- Validates the foreign keys of one table of an index whose rows have all been compared; waits while a refresh runs.
CREATE FUNCTION semantic.validate_foreign_key_v1(known_index integer, known_relation regclass) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $body$
DECLARE
    doubtful record;
BEGIN
    PERFORM pg_advisory_xact_lock(723628197, known_index);
    FOR doubtful IN
        SELECT known.*
        FROM semantic.unsound_foreign_keys_v1(known_index) AS known
        JOIN semantic.generation ON generation.id = known.generation_id
        WHERE known.name IS NOT NULL AND generation.backfilled_at IS NOT NULL AND generation.stale_since IS NULL
          AND known.relation = known_relation
    LOOP
        EXECUTE format('ALTER TABLE %s VALIDATE CONSTRAINT %I', doubtful.relation, doubtful.name);
    END LOOP;
END
$body$;
