-- Whether a worker should now build the vector index or the lexical index of a copy: it has vectors, the index isn't
-- ready, and no build has failed so recently that workers wait before they try again.
CREATE FUNCTION semantic.lacks_index_v1(generation_id integer) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
RETURN EXISTS (
    SELECT
    FROM semantic.generation
    JOIN pg_class AS stored ON stored.oid = generation.chunks
    CROSS JOIN LATERAL (
        VALUES (generation.chunks, '_vector_idx', true),
               (generation.receipts, '_lexemes_idx', generation.spec ->> 'lexical' IS NOT NULL)
    ) AS late (relation, suffix, declared)
    WHERE generation.id = lacks_index_v1.generation_id AND CASE  -- the size last, because reading it takes a lock
        WHEN generation.backfilled_at IS NOT NULL AND late.declared AND NOT EXISTS (
            SELECT FROM pg_index JOIN pg_class AS built ON built.oid = indexrelid
            WHERE indrelid = late.relation AND built.relname = stored.relname || late.suffix AND indisvalid
        ) AND NOT EXISTS (
            SELECT FROM semantic.problem
            WHERE problem.generation_id = generation.id AND kind = 'build' AND next_at > now()
        ) THEN semantic.table_size_v1(generation.chunks) > 0
    END
);
