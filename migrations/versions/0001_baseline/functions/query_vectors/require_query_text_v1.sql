-- Rejects a blank or very long query.
CREATE FUNCTION semantic.require_query_text_v1(query text) RETURNS void
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $body$
BEGIN
    IF coalesce(query, '') !~ '[^[:space:]]' THEN
        RAISE EXCEPTION 'the query is empty'
        USING ERRCODE = 'invalid_parameter_value', HINT = 'Pass some words to search for.';
    ELSIF length(query) > 10000 THEN
        RAISE EXCEPTION 'the query has % characters', length(query)
        USING ERRCODE = 'program_limit_exceeded', HINT = 'Shorten it to at most 10000 characters.';
    END IF;
END
$body$;
