-- The body is parsed when the function is created, so it follows pgvector to another schema. A body that is a string
-- would not.
CREATE FUNCTION semantic.sparsevec_from_text_v1(written text) RETURNS vector_schema.sparsevec
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN CAST(written AS vector_schema.sparsevec);
