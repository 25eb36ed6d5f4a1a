-- What a plan is explained with: what the planner knew and was allowed to do.

-- name: server
-- Whether the planner may use an index in order, and the version of pgvector.
SELECT current_setting('enable_indexscan')::boolean AS may_scan,
       (SELECT extversion FROM pg_extension WHERE extname = 'vector') AS pgvector

-- name: rows
-- How many rows the planner takes a table to have; -1 when nobody has counted them.
SELECT reltuples FROM pg_class WHERE oid = to_regclass(:name)

-- name: rights
-- How a table of a semantic index hides rows from the role that asks; nothing where it hides none from it.
SELECT semantic.rights_kind_v1(generation.id)
FROM semantic.generation
JOIN semantic.semantic_index ON semantic_index.id = generation.index_id
WHERE row_security_active(semantic_index.source) AND to_regclass(:name) IN (
    chunks, receipts, to_regclass('semantic.chunks_' || generation.id), to_regclass('semantic.receipts_' || generation.id)
)

-- name: matching_is_leakproof
-- Whether a superuser has declared that the operator which matches words tells nothing but its result.
SELECT proleakproof FROM pg_proc WHERE oid = to_regprocedure('pg_catalog.ts_match_vq(tsvector, tsquery)')
