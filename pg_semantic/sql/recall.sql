-- How many candidates scans keep, and the recall that was measured with them.

-- name: begin
-- Has the recall of each copy measured: of the live and the next copy of an index with an objective.
INSERT INTO semantic.recall (generation_id)
SELECT id FROM semantic.generation
WHERE role IN ('live', 'next') AND backfilled_at IS NOT NULL AND spec ->> 'recall_objective' IS NOT NULL
ON CONFLICT DO NOTHING

-- name: claim
-- Takes the measurement that has been due for longest. If it isn't finished within the lease, it is due again.
UPDATE semantic.recall SET measure_at = now() + make_interval(secs => :lease)
WHERE generation_id = (
    SELECT generation_id
    FROM semantic.recall
    JOIN semantic.generation ON generation.id = generation_id
    WHERE measure_at <= now() AND role IN ('live', 'next') AND spec ->> 'recall_objective' IS NOT NULL
    ORDER BY measure_at, generation_id
    FOR UPDATE OF recall SKIP LOCKED
    LIMIT 1
)
RETURNING generation_id, ef_search, measure_at AS leased_until

-- name: record
-- Adds what was measured, unless the copy was dropped meanwhile.
INSERT INTO semantic.recall_sample (generation_id, ef_search, queries, found, expected)
SELECT id, :ef_search, :queries, :found, :expected FROM semantic.generation WHERE id = :generation

-- name: forget
-- Deletes what was measured so long ago that it doesn't count any more, and all but the newest queries at each number.
DELETE FROM semantic.recall_sample AS old
WHERE generation_id = :generation AND (
    measured_at < now() - make_interval(days => :days)
    OR (
        SELECT sum(queries) FROM semantic.recall_sample AS newer
        WHERE newer.generation_id = old.generation_id AND newer.ef_search = old.ef_search AND newer.id > old.id
    ) >= :newest
)

-- name: estimates
-- What was measured of a copy at each number of candidates.
SELECT ef_search, sum(queries) AS queries, sum(found) AS found, sum(expected) AS expected
FROM semantic.recall_sample
WHERE generation_id = :generation
GROUP BY ef_search

-- name: change
-- Changes the number of candidates, unless someone else has changed it or the objective meanwhile.
UPDATE semantic.recall SET ef_search = :ef_search, evidence = NULL, changed_at = now()
WHERE generation_id = :generation AND coalesce(ef_search, :default) = :before AND EXISTS (
    SELECT FROM semantic.generation
    WHERE id = :generation AND CAST(spec ->> 'recall_objective' AS double precision) = :objective
)

-- name: finish
-- Says when to measure next, and what kept the recall from being measured now. If the objective was changed meanwhile,
-- or the lease has expired, the measurement that is due stays due.
UPDATE semantic.recall SET measure_at = now() + make_interval(secs => :seconds), problem = :problem
WHERE generation_id = :generation AND measure_at = :leased_until

-- name: release
-- Makes a measurement that was given up due again, for any worker.
UPDATE semantic.recall SET measure_at = now() WHERE generation_id = :generation AND measure_at = :leased_until

-- name: keep
-- Keeps the number of candidates that was measured to be enough, with the measurements.
INSERT INTO semantic.recall (generation_id, ef_search, evidence, changed_at)
SELECT id, :ef_search, CAST(:evidence AS jsonb), now() FROM semantic.generation WHERE id = :generation
ON CONFLICT (generation_id) DO UPDATE
SET ef_search = excluded.ef_search, evidence = excluded.evidence, changed_at = now(), problem = NULL

-- name: read
-- Each copy with its objective, the number of candidates and what was measured with it. Also whether a number was
-- chosen by `pg-semantic tune`, and whether one was chosen for another copy of the index but not for the live one.
SELECT generation.id AS generation_id, CAST(spec ->> 'recall_objective' AS double precision) AS objective,
       coalesce(recall.ef_search, :default) AS ef_search, recall.evidence IS NOT NULL AS tuned, recall.problem,
       sample.queries, sample.found, sample.expected, sample.measured_at,
       role = 'live' AND recall.ef_search IS NULL AND EXISTS (
           SELECT FROM semantic.recall AS other
           JOIN semantic.generation AS copy ON copy.id = other.generation_id
           WHERE copy.index_id = generation.index_id AND copy.role = 'previous' AND other.ef_search IS NOT NULL
       ) AS stale
FROM semantic.generation
LEFT JOIN semantic.recall ON recall.generation_id = generation.id
LEFT JOIN LATERAL (
    SELECT sum(queries) AS queries, sum(found) AS found, sum(expected) AS expected, max(measured_at) AS measured_at
    FROM semantic.recall_sample
    WHERE recall_sample.generation_id = generation.id
      AND recall_sample.ef_search = coalesce(recall.ef_search, :default)
) AS sample ON true
