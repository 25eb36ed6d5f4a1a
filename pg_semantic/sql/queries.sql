-- Texts that SELECTs search by: requests for their vectors, and the cache that these are left in (migration 0005).

-- name: listen
-- Hears of requests as they are committed.
LISTEN semantic_query

-- name: take
-- Requests that are still waited for and nobody else is at, oldest first, and the beginning of the transaction at whose
-- end they are free again if they were not answered. Whatever the database's default, it is to see what others have
-- answered meanwhile, and to last for as long as the encoder takes.
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
-- Keeps the vectors of requests, one after the other, and deletes these.
SELECT semantic.answer_queries_v1(:ids, :vectors)

-- name: failed
-- A request that can not be answered, and why.
UPDATE semantic.query_request SET error = :error WHERE id = :id

-- name: forget
-- All but the newest vectors.
DELETE FROM semantic.query_vector
WHERE made_at <= (SELECT made_at FROM semantic.query_vector ORDER BY made_at DESC OFFSET :kept LIMIT 1)
