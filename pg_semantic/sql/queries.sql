-- Texts that SELECTs search by: requests for their vectors, and the cache that these are left in (migration 0005).

-- name: listen
-- Hears of requests as they are committed.
LISTEN semantic_query

-- name: take
-- Requests that nobody else is at, oldest first; they are free again when the transaction ends without an answer. The
-- answer is seen at once, and need not outlive a crash: so the commit waits for no disk.
SELECT id, encoder_id, text, set_config('synchronous_commit', 'off', true)
FROM semantic.query_request
WHERE error IS NULL AND encoder_id = ANY(:encoders)
ORDER BY id
LIMIT :most
FOR UPDATE SKIP LOCKED

-- name: answer
-- Keeps the vectors of requests, each an array as text, and deletes these.
WITH answered AS (
    DELETE FROM semantic.query_request WHERE id = ANY(:ids) RETURNING id, encoder_id, text
)
INSERT INTO semantic.query_vector (encoder_id, text_hash, vector)
SELECT DISTINCT ON (encoder_id, text) encoder_id, semantic.text_hash_v1(text), CAST(vector AS real[])
FROM answered
JOIN unnest(CAST(:ids AS bigint[]), CAST(:vectors AS text[])) AS made (id, vector) USING (id)
ON CONFLICT DO NOTHING

-- name: failed
-- A request that can not be answered, and why.
UPDATE semantic.query_request SET error = :error WHERE id = :id

-- name: forget
-- All but the newest vectors.
DELETE FROM semantic.query_vector
WHERE made_at <= (SELECT made_at FROM semantic.query_vector ORDER BY made_at DESC OFFSET :kept LIMIT 1)
