-- The statistics that BM25 needs: how many rows there are, how long they are, and how many contain each lexeme.

-- name: lock
-- Whether this transaction is the one that counts. The first number is our own.
SELECT pg_try_advisory_xact_lock(723628195, :generation)

-- name: state
-- When statistics were last refreshed, for how many rows, and how many seconds ago.
SELECT row_count, refreshed_at, CAST(extract(epoch FROM now() - refreshed_at) AS double precision) AS seconds
FROM semantic.readable_lexicon
WHERE generation_id = :generation

-- name: refresh
-- Counts every lexeme and writes the counts that changed. The weights of rows switch to the new average length if
-- theirs differs from it by more than the tolerance, a fraction.
WITH counted AS MATERIALIZED (
    SELECT word, ndoc, nentry
    FROM ts_stat(format('SELECT lexemes FROM %s', CAST(to_regclass(:receipts) AS text)))
),
gone AS (
    DELETE FROM semantic.term
    WHERE generation_id = :generation
      AND NOT EXISTS (SELECT FROM counted WHERE counted.word = term.lexeme AND counted.ndoc > 1)
),
written AS (
    INSERT INTO semantic.term AS term (generation_id, lexeme, row_count)
    SELECT :generation, word, ndoc FROM counted WHERE ndoc > 1
    ON CONFLICT (generation_id, lexeme) DO UPDATE SET row_count = excluded.row_count
    WHERE term.row_count <> excluded.row_count
)
INSERT INTO semantic.lexicon AS lexicon (generation_id, row_count, average_length, weights_length)
SELECT :generation, :rows, measured.average, measured.average
FROM (
    SELECT greatest(1, sum(nentry) / CAST(greatest(:rows, 1) AS double precision)) AS average FROM counted
) AS measured
ON CONFLICT (generation_id) DO UPDATE
SET row_count = excluded.row_count, average_length = excluded.average_length, refreshed_at = now(),
    weights_length = CASE
        WHEN abs(excluded.average_length / lexicon.weights_length - 1) > :tolerance THEN excluded.average_length
        ELSE lexicon.weights_length
    END
