-- The vector of a query, made by the encoder of an index: from the cache, or from a worker over dblink. Name the index
-- by its chunk table.
CREATE FUNCTION semantic.embed(index regclass, query text) RETURNS vector_schema.vector
LANGUAGE sql STABLE
AS $body$
    SELECT semantic.embed_v1(semantic.live_generation_v1(index), query)
$body$;
