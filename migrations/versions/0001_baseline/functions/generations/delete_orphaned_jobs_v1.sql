-- Deletes up to `most` marks, and as many jobs, of copies that were dropped; returns how many it deleted. It looks
-- for them in the indexes, generation by generation, which costs next to nothing.
CREATE FUNCTION semantic.delete_orphaned_jobs_v1(most integer) RETURNS bigint
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $body$
    WITH RECURSIVE marked (id) AS (
        SELECT min(generation_id) FROM semantic.mark
        UNION ALL
        SELECT (SELECT min(generation_id) FROM semantic.mark WHERE generation_id > marked.id)
        FROM marked WHERE marked.id IS NOT NULL
    ), queued (id) AS (
        SELECT min(generation_id) FROM semantic.job
        UNION ALL
        SELECT (SELECT min(generation_id) FROM semantic.job WHERE generation_id > queued.id)
        FROM queued WHERE queued.id IS NOT NULL
    ), marks AS (
        DELETE FROM semantic.mark WHERE ctid = ANY (ARRAY(
            SELECT mark.ctid FROM semantic.mark
            WHERE generation_id = ANY (ARRAY(SELECT id FROM marked EXCEPT SELECT id FROM semantic.generation))
            LIMIT most
        ))
        RETURNING 1
    ), jobs AS (
        DELETE FROM semantic.job WHERE ctid = ANY (ARRAY(
            SELECT job.ctid FROM semantic.job
            WHERE generation_id = ANY (ARRAY(SELECT id FROM queued EXCEPT SELECT id FROM semantic.generation))
            LIMIT most
        ))
        RETURNING 1
    )
    SELECT (SELECT count(*) FROM marks) + (SELECT count(*) FROM jobs)
$body$;
