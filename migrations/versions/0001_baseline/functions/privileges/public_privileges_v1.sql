-- What every role can read in our schema. Every role can also call the functions that run with the caller's privileges
-- and, of those that run with the owner's, the ones that request the vector of a query or ask whether it is held out, and
-- the one that says how much work waits for workers.
CREATE FUNCTION semantic.public_privileges_v1() RETURNS TABLE (object text, of_column name, privilege text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $body$
    SELECT 'SCHEMA semantic', NULL, 'USAGE'
    UNION ALL
    SELECT 'TABLE semantic.' || relation, NULL, 'SELECT'
    FROM unnest(
        ARRAY[
            'captured', 'encoder', 'history', 'index_status', 'readable_basis', 'readable_evaluation', 'readable_lexicon',
            'readable_term', 'recall', 'recall_sample', 'semantic_index', 'tuned_options'
        ]
    ) AS relation
    UNION ALL
    SELECT 'TABLE semantic.generation', attname, 'SELECT'
    FROM pg_attribute
    WHERE attrelid = CAST('semantic.generation' AS regclass) AND attnum > 0 AND NOT attisdropped
      AND attname NOT IN ('backfill_after', 'backfill_rows')  -- a row's key, and a count of rows
    UNION ALL
    SELECT 'ROUTINE ' || CAST(CAST(oid AS regprocedure) AS text), NULL, 'EXECUTE'
    FROM pg_proc
    WHERE pronamespace = CAST('semantic' AS regnamespace) AND (
        NOT prosecdef OR proname IN (
            'wait_over_dblink_v1', 'poll_query_vector_v1', 'cached_query_vector_v1', 'request_query_vector_v1',
            'held_out_queries_v1', 'backlog'
        )
    )
$body$;
