-- The first step of a refresh: drops the foreign keys of all copies. ALTER TABLE on a table with a foreign key would
-- lock the referenced table for as long as it writes.
CREATE FUNCTION semantic.refresh_key_1_drop_foreign_keys_v1(known_index integer) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $body$
DECLARE
    link record;
BEGIN
    PERFORM semantic.lock_tables_v1('ACCESS EXCLUSIVE', VARIADIC semantic.relations_in_lock_order_v1(known_index, NULL));
    FOR link IN
        SELECT CAST(conrelid AS regclass) AS relation, conname
        FROM semantic.semantic_index
        JOIN semantic.generation ON generation.index_id = semantic_index.id
        JOIN pg_constraint ON contype = 'f' AND conparentid = 0 AND confrelid = semantic_index.source
            AND conrelid IN (generation.chunks, generation.receipts)
        WHERE semantic_index.id = known_index
    LOOP
        EXECUTE format('ALTER TABLE %s DROP CONSTRAINT %I', link.relation, link.conname);
    END LOOP;
END
$body$;
