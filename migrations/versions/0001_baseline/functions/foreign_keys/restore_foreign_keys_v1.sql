-- Adds back foreign keys that were dropped: DROP TABLE ... CASCADE of one partition drops those of all. They are
-- validated once the rows that were deleted in the meantime have been found. Returns whether any was missing.
CREATE FUNCTION semantic.restore_foreign_keys_v1(known_index integer) RETURNS boolean
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $body$
BEGIN
    IF NOT EXISTS (SELECT FROM semantic.unsound_foreign_keys_v1(known_index) AS known WHERE known.name IS NULL) THEN
        RETURN false;
    END IF;
    PERFORM pg_advisory_xact_lock(723628197, known_index);  -- a refresh drops them and adds them back
    IF NOT semantic.add_foreign_keys_v1(known_index) THEN
        RETURN false;
    END IF;
    PERFORM semantic.restart_backfill_v1(known_index, 'its foreign keys were dropped', true);
    RETURN true;
END
$body$;
