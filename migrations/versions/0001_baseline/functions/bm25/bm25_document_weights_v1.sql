-- The document side of BM25. pgvector stores at most 16,000 numbers, so a longer list keeps the largest ones.
CREATE FUNCTION semantic.bm25_document_weights_v1(
    lexemes tsvector, average_length double precision, k1 double precision, b double precision
) RETURNS vector_schema.sparsevec
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $body$
    SELECT semantic.sparsevec_from_text_v1(
        '{' || coalesce(string_agg(place || ':' || weight, ',' ORDER BY place), '') || '}/1000000000'
    )
    FROM (
        SELECT
            semantic.lexeme_position_v1(lexeme) AS place,
            sum(frequency * (k1 + 1) / (frequency + k1 * (1 - b + b * length / average_length)))::real AS weight
        FROM (
            SELECT lexeme, frequency, sum(frequency) OVER () AS length
            FROM (
                SELECT lexeme, coalesce(cardinality(positions), 1)::double precision AS frequency
                FROM unnest(lexemes)
            ) AS counted
        ) AS measured
        GROUP BY place
        ORDER BY weight DESC
        LIMIT 16000
    ) AS weighed
$body$;
