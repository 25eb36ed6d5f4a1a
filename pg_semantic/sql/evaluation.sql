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

-- name: newest
-- The newest figures of the index with this generation, for roles that can read all rows. Judgements are numbered in the
-- order of their first evaluation.
SELECT found.evaluated_at, found.variant, found.measures, found.queries, found.judged, found.p50_ms, found.p95_ms,
       found.judgements, generation.role, generation.spec #>> '{encoder,reference}' AS encoder
FROM (
    SELECT *, dense_rank() OVER (ORDER BY first_id) AS judgements
    FROM semantic.readable_evaluation
    WHERE index_id = (SELECT index_id FROM semantic.generation WHERE id = :generation)
) AS found
LEFT JOIN semantic.generation ON generation.id = found.generation_id
ORDER BY found.id DESC
LIMIT :most

-- name: latest
-- The latest figures of each variant of every index. Leaves out variants whose latest figures are much older than the
-- newest of their index.
SELECT generation.id AS live, latest.variant, latest.measures, extract(EPOCH FROM now() - latest.evaluated_at) AS seconds
FROM (
    SELECT DISTINCT ON (index_id, variant) *, max(evaluated_at) OVER (PARTITION BY index_id) AS newest
    FROM semantic.readable_evaluation
    ORDER BY index_id, variant, id DESC
) AS latest
JOIN semantic.generation ON generation.index_id = latest.index_id AND generation.role = 'live'
WHERE latest.evaluated_at > latest.newest - make_interval(days => :days)
ORDER BY latest.index_id, latest.variant

-- name: sides
-- Whether queries are held out for the table of an index, for the given hashes or all that are recorded.
SELECT query_hash, held_out
FROM semantic.judged_query
WHERE table_id = (SELECT semantic.judged_table_v1(source) FROM semantic.semantic_index WHERE id = :index) AND (CAST(:hashes AS bytea[]) IS NULL OR query_hash = ANY (CAST(:hashes AS bytea[])))

-- name: held_out
-- Which of the given queries are held out. For all roles that can search the index.
SELECT query_hash
FROM semantic.held_out_queries_v1(:index, CAST(:hashes AS bytea[])) AS query_hash

-- name: record_sides
-- Records whether queries are held out, unless they are recorded already. Returns those that are new.
INSERT INTO semantic.judged_query (table_id, query_hash, held_out)
SELECT (SELECT semantic.record_judged_table_v1(source) FROM semantic.semantic_index WHERE id = :index),
       given.query_hash, given.held_out
FROM unnest(CAST(:hashes AS bytea[]), CAST(:held_out AS boolean[])) AS given (query_hash, held_out)
ORDER BY given.query_hash
ON CONFLICT DO NOTHING
RETURNING query_hash
