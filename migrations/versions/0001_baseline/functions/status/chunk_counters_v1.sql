-- How many chunks of a copy the server has seen inserted, updated and deleted, in all partitions.
CREATE FUNCTION semantic.chunk_counters_v1(generation_id integer)
RETURNS TABLE (inserted bigint, updated bigint, deleted bigint)
LANGUAGE sql STABLE ROWS 1 SET search_path = pg_catalog, pg_temp
AS $body$
    SELECT CAST(sum(pg_stat_get_tuples_inserted(part.relid)) AS bigint),
           CAST(sum(pg_stat_get_tuples_updated(part.relid)) AS bigint),
           CAST(sum(pg_stat_get_tuples_deleted(part.relid)) AS bigint)
    FROM semantic.generation
    CROSS JOIN LATERAL (
        SELECT CAST(chunks AS oid) UNION ALL SELECT inhrelid FROM pg_inherits WHERE inhparent = chunks
    ) AS part (relid)
    WHERE generation.id = chunk_counters_v1.generation_id
$body$;
