-- Adds the foreign keys that an index lacks, not validated; returns whether any was missing.
CREATE FUNCTION semantic.add_foreign_keys_v1(known_index integer) RETURNS boolean
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $body$
DECLARE
    missing record;
    found_any boolean := false;
BEGIN
    FOR missing IN SELECT * FROM semantic.unsound_foreign_keys_v1(known_index) AS known WHERE known.name IS NULL LOOP
        EXECUTE format(
            'ALTER TABLE %s %sADD FOREIGN KEY (%s) REFERENCES %s (%s) '
            'ON UPDATE CASCADE ON DELETE CASCADE NOT VALID',
            missing.relation, missing.drops, missing.key, missing.source, missing.key
        );
        found_any := true;
    END LOOP;
    RETURN found_any;
END
$body$;
