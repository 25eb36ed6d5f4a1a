-- Waits until a worker has encoded a query for an index, and caches the vector. Needs no dblink. CALL it outside a
-- transaction block.
CREATE PROCEDURE semantic.embed_query(index regclass, query text)
LANGUAGE plpgsql
AS $body$
DECLARE
    encoder bigint;
    seconds double precision;
    request bigint;
    made real[];
BEGIN
    SELECT encoder_id INTO encoder FROM semantic.generation WHERE id = semantic.live_generation_v1(index);
    seconds := semantic.query_wait_seconds_v1();
    CALL semantic.embed_query_v1(encoder, query, seconds, seconds, request, made);
    PERFORM semantic.require_query_vector_v1(made, seconds);
END
$body$;
