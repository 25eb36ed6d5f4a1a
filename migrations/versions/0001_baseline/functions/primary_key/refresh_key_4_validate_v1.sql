-- The last step: deletes the chunks and receipts of rows that were deleted, or got another key, while there were no
-- foreign keys, and validates the foreign keys. No writer waits for this.
CREATE FUNCTION semantic.refresh_key_4_validate_v1(known_index integer) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $body$
DECLARE
    link record;
BEGIN
    FOR link IN
        SELECT CAST(conrelid AS regclass) AS relation, conname, source,
               semantic.key_equality_sql_v1(source, spec, 'own.', 'there.') AS same_key
        FROM semantic.semantic_index
        JOIN semantic.generation ON generation.index_id = semantic_index.id
        JOIN pg_constraint ON contype = 'f' AND conparentid = 0 AND confrelid = semantic_index.source
            AND conrelid IN (generation.chunks, generation.receipts) AND NOT convalidated
        WHERE semantic_index.id = known_index
    LOOP
        EXECUTE format(
            'DELETE FROM %s AS own WHERE NOT EXISTS (SELECT FROM %s AS there WHERE %s)',
            link.relation, link.source, link.same_key
        );
        EXECUTE format('ALTER TABLE %s VALIDATE CONSTRAINT %I', link.relation, link.conname);
    END LOOP;
END
$body$;
