-- Texts that SELECTs search for: the requests for their vectors, and the cache that holds the vectors.

-- name: listen
-- Subscribes to requests; a notification arrives when one is committed.
LISTEN semantic_query

-- name: take
-- Begins a transaction and locks requests that callers still wait for and no other worker has locked, oldest first.
-- Requests without an answer become free when the transaction ends. Whatever the database's defaults are, the
-- transaction must see what others have answered in the meantime, and must last as long as the encoder takes.
BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE;
SET LOCAL idle_in_transaction_session_timeout = '10min';
SET LOCAL statement_timeout = '60s';
SET LOCAL lock_timeout = '5s';
SELECT id, encoder_id, text
FROM semantic.query_request
WHERE error IS NULL AND encoder_id = ANY(:encoders) AND ends_at > now()
ORDER BY id
LIMIT :most
FOR UPDATE SKIP LOCKED

-- name: answer
-- Stores the vectors of requests, concatenated in order, and deletes the requests.
SELECT semantic.store_query_vectors_v1(:ids, :vectors)

-- name: failed
-- Records why a request cannot be answered.
UPDATE semantic.query_request SET error = :error WHERE id = :id

-- name: forget
-- Deletes all but the newest vectors.
DELETE FROM semantic.query_vector
WHERE made_at <= (SELECT made_at FROM semantic.query_vector ORDER BY made_at DESC OFFSET :kept LIMIT 1)
