-- The vector of a query for a copy of an index: from the cache, or from a worker, for which it waits over a second
-- connection.
CREATE FUNCTION semantic.embed_v1(generation integer, query text) RETURNS vector_schema.vector
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $body$
DECLARE
    encoder bigint := (SELECT encoder_id FROM semantic.generation WHERE id = embed_v1.generation);
BEGIN
    PERFORM semantic.require_query_text_v1(query);
    RETURN coalesce(
        semantic.cached_query_vector_v1(encoder, query),
        semantic.wait_over_dblink_v1(encoder, query, semantic.query_wait_seconds_v1())
    );
END
$body$;
