-- The hash by which the cache finds the vector of a query.
CREATE FUNCTION semantic.text_hash_v1(text text) RETURNS bytea
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN sha256(convert_to(text, 'UTF8'));
