-- Gives a table the judged queries of the one that an index was moved from, which other indexes may still have.
CREATE FUNCTION semantic.copy_judged_queries_v1(moved_from regclass, moved_to regclass) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $body$
DECLARE
    known integer := semantic.judged_table_v1(moved_from);
BEGIN
    IF known IS NOT NULL AND moved_from <> moved_to THEN
        INSERT INTO semantic.judged_query (table_id, query_hash, held_out, recorded_at)
        SELECT (SELECT semantic.record_judged_table_v1(moved_to)), query_hash, held_out, recorded_at
        FROM semantic.judged_query
        WHERE table_id = known
        ON CONFLICT DO NOTHING;
    END IF;
END
$body$;
