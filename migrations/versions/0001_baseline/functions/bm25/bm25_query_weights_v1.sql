-- The query side of BM25: what a row must match, and the inverse document frequencies of the query's terms. Only the
-- hundred rarest terms count. A lexeme without a count is in one row or in none.
CREATE FUNCTION semantic.bm25_query_weights_v1(index_receipts regclass, config regconfig, query text, match text)
RETURNS TABLE (matching tsquery, weights vector_schema.sparsevec)
LANGUAGE sql STABLE PARALLEL SAFE ROWS 1
SET search_path = pg_catalog, pg_temp SET client_min_messages = 'error'
AS $body$
    WITH terms AS MATERIALIZED (
        SELECT lexeme, positions FROM unnest(to_tsvector(config, query))
    ),
    rarest AS (
        SELECT
            asked.lexeme,
            coalesce(cardinality(asked.positions), 1)
                * ln(1 + (greatest(known.total, known.row_count) - known.row_count + 0.5)
                    / (known.row_count + 0.5)) AS weight
        FROM terms AS asked
        JOIN semantic.term_counts_v1(index_receipts, ARRAY(SELECT lexeme FROM terms)) AS known USING (lexeme)
        ORDER BY weight DESC, asked.lexeme COLLATE "C"
        LIMIT 100
    )
    SELECT
        CASE match
            WHEN 'any' THEN any_of.terms
            WHEN 'all' THEN plainto_tsquery(config, query)
            WHEN 'phrase' THEN phraseto_tsquery(config, query)
            WHEN 'websearch' THEN websearch_to_tsquery(config, query)
        END,
        (
            SELECT semantic.sparsevec_from_text_v1(
                '{' || coalesce(string_agg(place || ':' || weight, ',' ORDER BY place), '') || '}/1000000000'
            )
            FROM (
                SELECT semantic.lexeme_position_v1(lexeme) AS place, sum(weight)::real AS weight FROM rarest GROUP BY place
            ) AS placed
        )
    FROM (
        SELECT coalesce(
            string_agg(
                '''' || replace(replace(lexeme, chr(92), repeat(chr(92), 2)), '''', '''''') || '''', ' | '
            ), ''
        )::tsquery AS terms
        FROM rarest
    ) AS any_of
$body$;
