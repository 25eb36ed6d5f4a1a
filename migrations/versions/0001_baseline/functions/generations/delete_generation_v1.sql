-- Drops the tables of a copy and its views, and deletes it from the registry. The caller drops the tables of the live
-- copy. Marks are deleted before jobs: this waits for a worker that is folding marks, and then finds its jobs. Beyond
-- ten thousand, both are left to delete_orphaned_jobs_v1, because the source is locked in the meantime.
CREATE FUNCTION semantic.delete_generation_v1(generation_id integer, and_tables boolean) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $body$
DECLARE
    gone semantic.generation;
    doomed record;
BEGIN
    PERFORM semantic.lock_tables_v1('ACCESS EXCLUSIVE', VARIADIC semantic.relations_in_lock_order_v1(index_id, id))
    FROM semantic.generation
    WHERE id = generation_id;
    SELECT * INTO gone FROM semantic.generation WHERE id = generation_id FOR UPDATE;
    FOR doomed IN
        SELECT 'VIEW' AS kind, CAST(CAST(pg_class.oid AS regclass) AS text) AS name
        FROM (VALUES ('semantic.chunks_' || gone.id), ('semantic.receipts_' || gone.id)) AS view (name)
        JOIN pg_class ON pg_class.oid = to_regclass(view.name)
        UNION ALL
        SELECT 'TABLE', CAST(CAST(oid AS regclass) AS text)
        FROM pg_class
        WHERE and_tables AND oid IN (gone.chunks, gone.receipts)
        ORDER BY kind DESC, name
    LOOP
        EXECUTE format('DROP %s %s', doomed.kind, doomed.name);
    END LOOP;
    DELETE FROM semantic.mark WHERE ctid = ANY (
        ARRAY(SELECT mark.ctid FROM semantic.mark WHERE mark.generation_id = gone.id LIMIT 10000)
    );
    DELETE FROM semantic.job WHERE ctid = ANY (
        ARRAY(SELECT job.ctid FROM semantic.job WHERE job.generation_id = gone.id LIMIT 10000)
    );
    DELETE FROM semantic.generation WHERE id = gone.id;
    DELETE FROM semantic.encoder
    WHERE id = gone.encoder_id
      AND NOT EXISTS (SELECT FROM semantic.generation WHERE generation.encoder_id = encoder.id);
END
$body$;
