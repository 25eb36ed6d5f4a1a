-- Moves an index to another table with the same columns, such as one that replaced its own. Foreign keys move along,
-- triggers are dropped from the old table, and every row is compared. The caller creates the triggers.
CREATE FUNCTION semantic.move_index_to_table_v1(known_index integer, adopted regclass) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $body$
DECLARE
    known semantic.semantic_index;
    stale record;
BEGIN
    SELECT * INTO known FROM semantic.semantic_index WHERE id = known_index FOR NO KEY UPDATE;
    PERFORM semantic.require_move_target_v1(known_index, adopted);
    PERFORM semantic.lock_tables_v1('ACCESS EXCLUSIVE', VARIADIC adopted || ARRAY(
        SELECT CAST(oid AS regclass) FROM pg_class WHERE oid = known.source
    ));
    IF known.source <> adopted THEN
        FOR stale IN
            SELECT format('DROP TRIGGER %I ON %s', tgname, CAST(tgrelid AS regclass)) AS statement
            FROM pg_trigger
            JOIN pg_proc ON pg_proc.oid = tgfoid
            WHERE tgparentid = 0 AND proname IN (known.name || '_capture', known.name || '_capture_replica')
              AND tgrelid IN (SELECT known.source UNION SELECT relid FROM pg_partition_tree(known.source))
            UNION ALL
            SELECT format('ALTER TABLE %s DROP CONSTRAINT %I', CAST(conrelid AS regclass), conname)
            FROM semantic.generation
            JOIN pg_constraint ON conrelid IN (chunks, receipts)
            WHERE index_id = known_index AND contype = 'f' AND conparentid = 0
        LOOP
            EXECUTE stale.statement;
        END LOOP;
    END IF;
    DELETE FROM semantic.captured WHERE index_id = known_index;
    PERFORM semantic.copy_judged_queries_v1(known.source, adopted);
    UPDATE semantic.semantic_index SET source = adopted WHERE id = known_index;
    UPDATE semantic.generation
    SET spec = jsonb_set(spec, '{table}', to_jsonb(relname))
    FROM pg_class
    WHERE index_id = known_index AND pg_class.oid = adopted;
    PERFORM semantic.restore_foreign_keys_v1(known_index);
    PERFORM semantic.restart_backfill_v1(known_index, format('it was moved to table %s', adopted), true);
END
$body$;
