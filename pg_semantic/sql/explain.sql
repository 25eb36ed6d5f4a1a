-- Facts that explain a plan: what the planner knew and what it was allowed to do.

-- name: server
-- Whether the planner can use an index scan to get rows in order, and the version of pgvector.
SELECT current_setting('enable_indexscan')::boolean AS may_scan,
       (SELECT extversion FROM pg_extension WHERE extname = 'vector') AS pgvector

-- name: rows
-- How many rows the planner assumes a table has, in all its partitions; -1 if it was never analyzed.
SELECT coalesce(semantic.analyzed_rows_estimate_v1(to_regclass(:name)), -1)

-- name: privileges
-- How a table of a semantic index hides rows from the current role; no row if it hides none.
SELECT semantic.row_visibility_v1(generation.id)
FROM semantic.generation
JOIN semantic.semantic_index ON semantic_index.id = generation.index_id
WHERE row_security_active(semantic_index.source) AND to_regclass(:name) IN (
    chunks, receipts, to_regclass('semantic.chunks_' || generation.id), to_regclass('semantic.receipts_' || generation.id)
)

-- name: matching_is_leakproof
-- Whether a superuser has marked the operator that matches words as LEAKPROOF: it reveals nothing but its result.
SELECT proleakproof FROM pg_proc WHERE oid = to_regprocedure('pg_catalog.ts_match_vq(tsvector, tsquery)')
