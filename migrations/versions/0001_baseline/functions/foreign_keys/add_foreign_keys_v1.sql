-- Adds the foreign keys that an index lacks, not validated; returns whether any was missing. Before PostgreSQL 18, that of
-- a partitioned table is validated at once, which blocks writers to the source meanwhile, so chunks without a row are
-- deleted first.
CREATE FUNCTION semantic.add_foreign_keys_v1(known_index integer) RETURNS boolean
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $body$
DECLARE
    missing record;
    found_any boolean := false;
BEGIN
    FOR missing IN
        SELECT known.*, relkind = 'p' AND CAST(current_setting('server_version_num') AS integer) < 180000 AS at_once,
               semantic.key_equality_sql_v1(known.source, generation.spec, 'own.', 'there.') AS same_key
        FROM semantic.unsound_foreign_keys_v1(known_index) AS known
        JOIN semantic.generation ON generation.id = known.generation_id
        JOIN pg_class ON pg_class.oid = known.relation
        WHERE known.name IS NULL
    LOOP
        IF missing.at_once THEN
            EXECUTE format(
                'DELETE FROM %s AS own WHERE NOT EXISTS (SELECT FROM %s AS there WHERE %s)',
                missing.relation, missing.source, missing.same_key
            );
        END IF;
        EXECUTE format(
            'ALTER TABLE %s %sADD FOREIGN KEY (%s) REFERENCES %s (%s) ON UPDATE CASCADE ON DELETE CASCADE%s',
            missing.relation, missing.drops, missing.key, missing.source, missing.key,
            CASE WHEN missing.at_once THEN '' ELSE ' NOT VALID' END
        );
        found_any := true;
    END LOOP;
    RETURN found_any;
END
$body$;
