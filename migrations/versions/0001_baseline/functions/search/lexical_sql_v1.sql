-- A template of the common table expression `lexical`: rows by BM25.
CREATE FUNCTION semantic.lexical_sql_v1() RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
RETURN $sql$
    words AS MATERIALIZED (
        SELECT asked.matching, asked.weights
        FROM semantic.generation
        CROSS JOIN semantic.bm25_query_weights_v1(generation.receipts, {config}, $2, 'any') AS asked
        WHERE generation.id = {generation}
    ),
    lexical AS MATERIALIZED (
        SELECT {source_key}, matched._value,
               row_number() OVER (ORDER BY matched._value DESC, {source_key}) AS _rank
        FROM (
            SELECT {receipt_key}, -(receipt.weights {product} (SELECT weights FROM words)) AS _value
            FROM {receipts} AS receipt
            WHERE receipt.lexemes @@ (SELECT matching FROM words)
            ORDER BY _value DESC, {receipt_key}
        ) AS matched
        JOIN {source} AS source ON {source_of_matched}
        WHERE {filter}
        ORDER BY matched._value DESC, {source_key}
        LIMIT {depth}
    )$sql$;
