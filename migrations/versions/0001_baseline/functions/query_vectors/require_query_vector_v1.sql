-- Rejects a query whose vector did not come in time; otherwise returns the vector.
CREATE FUNCTION semantic.require_query_vector_v1(vector real[], seconds double precision) RETURNS real[]
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $body$
BEGIN
    IF vector IS NULL THEN
        RAISE EXCEPTION 'the query was not encoded within % seconds', seconds
        USING ERRCODE = 'query_canceled',
            HINT = 'Check that a worker is running and can load the encoder. To wait longer: '
                'SET semantic.wait_seconds = 30, and a statement_timeout above that.';
    END IF;
    RETURN vector;
END
$body$;
