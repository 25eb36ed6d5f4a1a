-- Stores the vectors of requests, concatenated in order, and deletes the requests. The vectors are visible at once
-- and need not survive a crash, so the commit doesn't wait for the disk. This is a function because the server keeps
-- its plan, whatever pooler is in between.
CREATE FUNCTION semantic.store_query_vectors_v1(requests bigint[], vectors real[]) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $body$
DECLARE
    size integer := cardinality(vectors) / cardinality(requests);
BEGIN
    PERFORM set_config('synchronous_commit', 'off', true);
    WITH answered AS (
        DELETE FROM semantic.query_request WHERE id = ANY(requests) RETURNING id, encoder_id, text
    )
    INSERT INTO semantic.query_vector (encoder_id, text_hash, vector)
    SELECT DISTINCT ON (encoder_id, text)
           encoder_id, semantic.text_hash_v1(text), vectors[(number - 1) * size + 1:number * size]
    FROM answered
    JOIN unnest(requests) WITH ORDINALITY AS made (id, number) USING (id)
    ON CONFLICT DO NOTHING;
END
$body$;
