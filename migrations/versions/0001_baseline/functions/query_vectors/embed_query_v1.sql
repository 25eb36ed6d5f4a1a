-- Makes the request, if there is none yet, and waits part of the time for the answer. It commits in the middle, so it
-- can neither be SECURITY DEFINER nor have a search_path of its own.
CREATE PROCEDURE semantic.embed_query_v1(
    encoder bigint, query text, seconds double precision, part double precision,
    INOUT request bigint, INOUT vector real[]
)
LANGUAGE plpgsql
AS $body$
DECLARE
    is_new boolean := request IS NULL;
BEGIN
    IF is_new THEN
        COMMIT;  -- so that the next transaction can be read-write, whatever the default is
        SET TRANSACTION READ WRITE;
        request := semantic.request_query_vector_v1(encoder, query, seconds);
    END IF;
    COMMIT;
    SET TRANSACTION ISOLATION LEVEL READ COMMITTED;
    vector := semantic.poll_query_vector_v1(encoder, query, request, part, is_new);
END
$body$;
