-- Figures of evaluations, and which judged queries are held out from tuning and training.

-- name: save
-- Keeps the figures of one variant.
INSERT INTO semantic.evaluation (
    index_id, generation_id, fingerprint, judgements_hash, queries, variant, settings, measures, judged, p50_ms, p95_ms,
    measure, per_query
)
SELECT index_id, id, :fingerprint, :judgements, :queries, :variant, CAST(:settings AS jsonb), CAST(:measures AS jsonb),
       :judged, :p50_ms, :p95_ms, :measure, CAST(:per_query AS double precision [])
FROM semantic.generation
WHERE id = :generation

-- name: last
-- The last values of a variant with the same settings on the same judgements.
SELECT per_query, evaluated_at
FROM semantic.evaluation
WHERE index_id = (SELECT index_id FROM semantic.generation WHERE id = :generation)
      AND settings = CAST(:settings AS jsonb)
      AND judgements_hash = :judgements AND measure = :measure
ORDER BY id DESC
LIMIT 1

-- name: sides
-- Whether queries of an index are held out, for the given hashes or all that are recorded.
SELECT query_hash, held_out
FROM semantic.judged_query
WHERE index_id = :index AND (CAST(:hashes AS bytea[]) IS NULL OR query_hash = ANY (CAST(:hashes AS bytea[])))

-- name: record_sides
-- Records whether queries are held out, unless they are recorded already. Returns those that are new.
INSERT INTO semantic.judged_query (index_id, query_hash, held_out)
SELECT :index, given.query_hash, given.held_out
FROM unnest(CAST(:hashes AS bytea[]), CAST(:held_out AS boolean[])) AS given (query_hash, held_out)
ORDER BY given.query_hash
ON CONFLICT DO NOTHING
RETURNING query_hash
