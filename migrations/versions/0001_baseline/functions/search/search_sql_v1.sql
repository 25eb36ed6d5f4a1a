-- The statement of a search. Its parameters are the query's vector, its text, the number of rows, the minimum score,
-- and the keys, one array per key column. It ranks like pg_semantic.search: a row by its nearest chunk, through the
-- vector index, or exactly if that finds too few rows; by BM25; or by the reciprocal ranks of both.
CREATE FUNCTION semantic.search_sql_v1(generation integer, mode text, k integer, filtered boolean) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $body$
DECLARE
    near text := '(chunk.vector {distance} {vector}) + 0';
    worded text := $sql$
        semantic.bm25_document_weights_v1(
            semantic.lexemes_v1({config}, chunk.content),
            coalesce((
                SELECT weights_length FROM semantic.readable_lexicon WHERE generation_id = {generation}
            ), 100),
            {k1}, {b}
        ) {product} (SELECT weights FROM words)$sql$;
    depth integer := k;
    places jsonb;
BEGIN
    PERFORM semantic.require_search_arguments_v1(generation, mode, k);
    IF mode = 'hybrid' THEN
        depth := 100;
        WHILE depth < k LOOP
            depth := depth * 2;
        END LOOP;
    END IF;
    places := semantic.search_template_values_v1(generation, depth, filtered);
    places := places || jsonb_build_object(
        'mode', mode,
        'step', CASE mode WHEN 'hybrid' THEN 'found._step,' END,
        'comparable', CASE mode WHEN 'hybrid' THEN 'AND found._step = 100' END,
        'relevance', semantic.render_template_v1(CASE mode WHEN 'lexical' THEN worded ELSE near END, places)
    );
    RETURN semantic.render_template_v1(
        'WITH ' || CASE mode
            WHEN 'dense' THEN semantic.dense_sql_v1()
            WHEN 'lexical' THEN semantic.lexical_sql_v1()
            ELSE concat_ws(', ', semantic.dense_sql_v1(), semantic.lexical_sql_v1(), semantic.hybrid_sql_v1())
        END || semantic.passages_sql_v1(),
        places
    );
END
$body$;
