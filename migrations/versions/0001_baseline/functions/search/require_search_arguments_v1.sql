-- Rejects invalid arguments of a search.
CREATE FUNCTION semantic.require_search_arguments_v1(generation integer, mode text, k integer) RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $body$
BEGIN
    IF mode IS NULL OR mode NOT IN ('dense', 'lexical', 'hybrid') THEN
        RAISE EXCEPTION 'mode % is unknown', quote_nullable(mode)
        USING ERRCODE = 'invalid_parameter_value', HINT = 'Use ''dense'', ''lexical'' or ''hybrid''.';
    ELSIF k IS NULL OR k NOT BETWEEN 1 AND 10000 THEN
        RAISE EXCEPTION 'k is %', coalesce(CAST(k AS text), 'NULL')
        USING ERRCODE = 'invalid_parameter_value', HINT = 'Pass the number of rows to return, from 1 to 10000.';
    ELSIF mode <> 'dense' AND EXISTS (
        SELECT FROM semantic.generation AS known
        WHERE known.id = generation AND jsonb_typeof(known.spec -> 'lexical') IS DISTINCT FROM 'object'
    ) THEN
        RAISE EXCEPTION 'the semantic index has no BM25: its live copy was created with lexical=None'
        USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'Search with mode => ''dense''.';
    END IF;
END
$body$;
