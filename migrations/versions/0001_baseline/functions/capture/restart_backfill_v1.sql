-- Has every row of an index compared with its vectors again, page by page. A generation whose first backfill has not
-- begun needs no other one, unless `always` is true.
CREATE FUNCTION semantic.restart_backfill_v1(known_index integer, reason text, always boolean) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $body$
BEGIN
    WITH restarted AS (
        UPDATE semantic.generation
        SET stale_since = coalesce(stale_since, now()), stale_reason = reason,
            backfill_after = NULL  -- which may no longer be a key
        WHERE index_id = known_index AND (always OR backfill_after IS NOT NULL OR backfilled_at IS NOT NULL)
        RETURNING id
    )
    INSERT INTO semantic.mark (generation_id) SELECT id FROM restarted;
END
$body$;
