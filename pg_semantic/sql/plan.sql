-- What a plan is explained with: what the planner knew and was allowed to do.

-- name: server
-- Whether the planner may use an index in order, and the version of pgvector.
SELECT current_setting('enable_indexscan')::boolean AS may_scan,
       (SELECT extversion FROM pg_extension WHERE extname = 'vector') AS pgvector

-- name: rows
-- How many rows the planner takes a table to have; -1 when nobody has counted them.
SELECT reltuples FROM pg_class WHERE oid = to_regclass(:name)
