-- SECURITY DEFINER, here and below: roles must not read what others search for, nor put vectors into the cache.
CREATE FUNCTION semantic.cached_query_vector_v1(encoder bigint, query text) RETURNS real[]
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $body$
    SELECT vector FROM semantic.query_vector
    WHERE encoder_id = encoder AND text_hash = semantic.text_hash_v1(query)
$body$;
