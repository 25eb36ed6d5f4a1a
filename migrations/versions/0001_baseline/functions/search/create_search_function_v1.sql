-- Creates the search function: with the types of the key, with the privileges of its caller, and for whichever copy of
-- the index is live when it is called.
CREATE FUNCTION semantic.create_search_function_v1(known_index integer) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $body$
DECLARE
    template text := $sql$
        CREATE FUNCTION {name}(
            query text, k integer DEFAULT 10, mode text DEFAULT 'dense', {filters},
            min_score double precision DEFAULT NULL
        ) RETURNS TABLE ({found}, score double precision, passage text, ordinal integer)
        LANGUAGE plpgsql STABLE
        SET search_path = pg_catalog, pg_temp
        SET hnsw.ef_search = 100
        SET hnsw.iterative_scan = 'strict_order'
        SET hnsw.max_scan_tuples = 1000000
        SET hnsw.scan_mem_multiplier = 32
        AS {body}$sql$;
    body text := $sql$
        DECLARE
            asked integer := semantic.live_generation_v1({chunks});
        BEGIN
            PERFORM semantic.require_query_text_v1($1);{checked}
            RETURN QUERY EXECUTE semantic.search_sql_v1(asked, $3, $2, {filtered})
            USING CASE WHEN $3 <> 'lexical' THEN semantic.embed_v1(asked, $1) END, $1, $2, {min_score}, {keys};
        END
        $sql$;
    places jsonb;
    made text;
BEGIN
    PERFORM semantic.drop_search_function_v1(known_index);
    SELECT * INTO made, places FROM semantic.search_function_template_values_v1(known_index);
    PERFORM semantic.sparsevec_from_text_v1('{1:1}/1');  -- loads pgvector, so that its settings can be named
    EXECUTE semantic.render_template_v1(template, places || jsonb_build_object(
        'name', made, 'body', quote_literal(semantic.render_template_v1(body, places))
    ));
    EXECUTE format(
        'COMMENT ON FUNCTION %s(text, integer, text, %s, double precision) IS %L', made, places ->> 'types',
        'Finds rows by meaning: SELECT * FROM ' || made || '(''some words'', 10). '
        'mode is dense, lexical or hybrid. Finds only rows with these keys, and with a score of at least min_score.'
    );
    PERFORM semantic.apply_privileges_v1(
        known_index, false,
        ARRAY(SELECT part.name FROM semantic.index_objects_v1(known_index) AS part WHERE part.kind = 'FUNCTION')
    );
END
$body$;
