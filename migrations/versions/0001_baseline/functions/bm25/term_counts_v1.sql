-- How many rows there are, and how many contain each of these lexemes. A role that row-level security keeps from some
-- rows learns nothing about those: it gets counts of the first 300 rows that it can see.
CREATE FUNCTION semantic.term_counts_v1(index_receipts regclass, asked text[])
RETURNS TABLE (lexeme text, row_count double precision, total double precision)
LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $body$
#variable_conflict use_column
DECLARE
    known record;
BEGIN
    SELECT generation.id, row_security_active(source) AS restricted, CAST(source AS text) AS source, (
        SELECT string_agg(quote_ident(part.value ->> 'name'), ', ' ORDER BY part.number)
        FROM jsonb_array_elements(spec -> 'key') WITH ORDINALITY AS part (value, number)
    ) AS key, semantic.key_equality_sql_v1(source, spec, 'visible.', 'own.') AS same_key
    INTO known
    FROM semantic.generation
    JOIN semantic.semantic_index ON semantic_index.id = generation.index_id
    WHERE generation.receipts = index_receipts;
    IF known.restricted THEN
        RETURN QUERY EXECUTE format(
            $sql$
                WITH seen AS MATERIALIZED (
                    SELECT tsvector_to_array(own.lexemes) AS lexemes
                    FROM (SELECT %1$s FROM %2$s ORDER BY %1$s LIMIT 300) AS visible
                    JOIN %3$s AS own ON %4$s
                )
                SELECT wanted.lexeme, CAST(greatest(count(found.lexeme), 1) AS double precision),
                       (SELECT CAST(greatest(count(*), 1) AS double precision) FROM seen)
                FROM unnest($1) AS wanted (lexeme)
                LEFT JOIN (SELECT unnest(lexemes) AS lexeme FROM seen) AS found
                    ON found.lexeme COLLATE "C" = wanted.lexeme COLLATE "C"
                GROUP BY wanted.lexeme
            $sql$,
            known.key, known.source, index_receipts, known.same_key
        ) USING asked;
    ELSE
        RETURN QUERY
            SELECT wanted.lexeme, CAST(coalesce(term.row_count, 1) AS double precision),
                   CAST(coalesce(lexicon.row_count, 1) AS double precision)
            FROM unnest(asked) AS wanted (lexeme)
            LEFT JOIN semantic.readable_lexicon AS lexicon ON lexicon.generation_id = known.id
            LEFT JOIN (
                SELECT lexeme, row_count
                FROM semantic.readable_term
                WHERE generation_id = known.id AND lexeme = ANY (asked)  -- a join would not use the index
            ) AS term ON term.lexeme = wanted.lexeme;
    END IF;
END
$body$;
