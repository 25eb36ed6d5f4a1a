-- The figures of evaluations, for roles that can read all rows: means over all queries, and nothing about a single one.
-- Figures are comparable if they have the same first_id, which is that of the first evaluation on their judgements.
CREATE VIEW semantic.readable_evaluation WITH (security_barrier) AS
SELECT id, index_id, generation_id, evaluated_at, queries, variant, measures, judged, p50_ms, p95_ms,
       min(id) OVER (PARTITION BY index_id, judgements_hash) AS first_id
FROM semantic.evaluation
WHERE index_id IN (
    SELECT index_id FROM semantic.generation WHERE role = 'live' AND semantic.sees_all_rows_v1(generation.id)
);
