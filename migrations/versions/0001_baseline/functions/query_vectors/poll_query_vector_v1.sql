-- Waits for the answer. Each poll is a statement of its own, so it sees what has been committed since. Returns NULL
-- if no answer arrives within this many seconds. Polls often at first, unless a call has waited for the request
-- before.
CREATE FUNCTION semantic.poll_query_vector_v1(
    encoder bigint, query text, request bigint, seconds double precision, is_new boolean
) RETURNS real[]
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $body$
DECLARE
    hash bytea := semantic.text_hash_v1(query);
    ends timestamptz := clock_timestamp() + make_interval(secs => least(seconds, 300));
    pause double precision := CASE WHEN is_new THEN 0.0005 ELSE 0.05 END;
    known real[];
    problem text;
BEGIN
    LOOP
        SELECT made.vector, asked.error INTO known, problem
        FROM (VALUES (encoder)) AS one (encoder_id)
        LEFT JOIN semantic.query_vector AS made ON made.encoder_id = one.encoder_id AND made.text_hash = hash
        LEFT JOIN semantic.query_request AS asked
            ON asked.id = request AND asked.encoder_id = one.encoder_id AND asked.text = query;
        IF problem IS NOT NULL AND known IS NULL THEN
            RAISE EXCEPTION 'the query cannot be encoded: %', problem USING ERRCODE = 'external_routine_exception';
        ELSIF known IS NOT NULL OR clock_timestamp() >= ends THEN
            RETURN known;
        END IF;
        PERFORM pg_sleep(least(pause, greatest(0, extract(epoch FROM ends - clock_timestamp()))));
        pause := least(pause * 1.05, 0.05);
    END LOOP;
END
$body$;
