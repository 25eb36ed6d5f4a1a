-- Functions that users call have no version in their names, and only call those that do.
CREATE FUNCTION semantic.embed(index regclass, query text) RETURNS vector_schema.vector
LANGUAGE sql STABLE
AS $body$
    SELECT semantic.embed_v1(semantic.live_generation_v1(index), query)
$body$;
