-- Requests the vector of a text from the workers. Returns the id of the request, or NULL if the vector is known. A
-- request exists for as long as a caller waits for its answer, and for at least a minute. Each encoder has its own
-- queue, so that requests for one that no worker can load don't block others.
CREATE FUNCTION semantic.request_query_vector_v1(
    encoder bigint, query text, seconds double precision
) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $body$
DECLARE
    waiting bigint;
    ended boolean;
    made bigint;
BEGIN
    PERFORM semantic.require_query_text_v1(query);
    IF semantic.cached_query_vector_v1(encoder, query) IS NOT NULL THEN
        RETURN NULL;
    ELSIF NOT EXISTS (SELECT FROM semantic.worker WHERE heartbeat_at > now() - interval '1 minute') THEN
        RAISE EXCEPTION 'the query cannot be encoded: no worker is running'
        USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'Start one: pg-semantic worker.';
    END IF;
    SELECT count(*) FILTER (WHERE encoder_id = encoder AND error IS NULL AND ends_at >= clock_timestamp()),
           bool_or(ends_at < clock_timestamp())
    INTO waiting, ended
    FROM semantic.query_request;
    IF ended THEN
        DELETE FROM semantic.query_request
        WHERE id IN (
            SELECT id FROM semantic.query_request
            WHERE ends_at < clock_timestamp()
            LIMIT 100
            FOR UPDATE SKIP LOCKED
        );
    END IF;
    IF waiting >= 500 THEN
        RAISE EXCEPTION 'the query cannot be encoded: 500 others are already waiting'
        USING ERRCODE = 'insufficient_resources',
            HINT = 'Try again in a moment. If this continues, run more workers.';
    END IF;
    INSERT INTO semantic.query_request (encoder_id, text, ends_at)
    VALUES (encoder, query, clock_timestamp() + make_interval(secs => least(greatest(seconds, 60), 300)))
    RETURNING id INTO made;
    PERFORM pg_notify('semantic_query', '');
    RETURN made;
END
$body$;
