-- The newest file of a copy's vector index, which changes when someone builds the index or one of its partitions again,
-- and the chunks that the index had after its build. No row unless the index is complete.
CREATE FUNCTION semantic.vector_index_files_v1(generation_id integer) RETURNS TABLE (file oid, chunks bigint)
LANGUAGE sql STABLE ROWS 1 SET search_path = pg_catalog, pg_temp
AS $body$
    SELECT max(part.relfilenode), CAST(sum(part.reltuples) AS bigint)
    FROM semantic.generation
    JOIN pg_class AS stored ON stored.oid = generation.chunks
    JOIN pg_class AS whole
        ON whole.relnamespace = stored.relnamespace AND whole.relname = stored.relname || '_vector_idx'
    JOIN pg_index ON indexrelid = whole.oid AND indrelid = stored.oid AND indisvalid
    LEFT JOIN pg_inherits ON inhparent = whole.oid
    JOIN pg_class AS part ON part.oid = coalesce(inhrelid, whole.oid)
    WHERE generation.id = vector_index_files_v1.generation_id
    HAVING count(*) > 0
$body$;
