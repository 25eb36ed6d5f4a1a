-- Runs the statements that are due, for all or some objects, or only those that close, and says who can read the
-- index now. A step that created objects updates only these and leaves the others to a worker, so that it waits for
-- no search while the source is locked.
CREATE FUNCTION semantic.apply_privileges_v1(
    known_index integer, only_close boolean DEFAULT false, only_objects text[] DEFAULT NULL
) RETURNS SETOF text
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $body$
DECLARE
    due record;
    said boolean := false;
BEGIN
    PERFORM pg_advisory_xact_lock(723628196, known_index);  -- the first number is our own
    FOR due IN
        SELECT * FROM semantic.privilege_statements_v1(known_index) AS every
        WHERE (every.step = 'close' OR NOT only_close)
          AND (every.object = ANY (only_objects) OR only_objects IS NULL)
    LOOP
        EXECUTE due.statement;
        said := said OR due.step IN ('secure', 'open') OR due.object NOT LIKE '%(%';
        RETURN NEXT due.statement;
    END LOOP;
    IF said THEN
        RAISE NOTICE '%', semantic.describe_privileges_v1(known_index);
    END IF;
END
$body$;
