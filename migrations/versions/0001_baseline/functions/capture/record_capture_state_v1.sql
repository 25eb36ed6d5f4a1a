-- Records the tables of an index as they are now. If they changed, rows may have bypassed capture, so all are
-- compared again. Returns the changes.
CREATE FUNCTION semantic.record_capture_state_v1(known_index integer) RETURNS text
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $body$
DECLARE
    known boolean;
    reason text;
BEGIN
    PERFORM FROM semantic.semantic_index WHERE id = known_index FOR NO KEY UPDATE;  -- one at a time
    known := EXISTS (SELECT FROM semantic.captured WHERE index_id = known_index);
    reason := semantic.capture_state_changes_v1(known_index, false);
    IF reason IS NOT NULL THEN
        PERFORM semantic.restart_backfill_v1(known_index, reason, known);
    END IF;
    DELETE FROM semantic.captured
    WHERE index_id = known_index AND relation NOT IN (
        SELECT state.relation FROM semantic.capture_state_v1(known_index) AS state
    );
    INSERT INTO semantic.captured AS before (index_id, relation, triggers, columns, file)
    SELECT known_index, * FROM semantic.capture_state_v1(known_index)
    ON CONFLICT (index_id, relation) DO UPDATE
    SET triggers = excluded.triggers, columns = before.columns || excluded.columns, file = excluded.file,
        recorded_at = now();
    RETURN reason;
END
$body$;
