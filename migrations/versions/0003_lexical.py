"""BM25 in stock Postgres: lexemes, document weights as sparse vectors, and term statistics."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

TABLES = (
    """
    CREATE TABLE semantic.lexicon (
        generation_id integer PRIMARY KEY REFERENCES semantic.generation ON DELETE CASCADE,
        row_count bigint NOT NULL,
        average_length double precision NOT NULL,
        weights_length double precision NOT NULL,
        refreshed_at timestamptz NOT NULL DEFAULT now()
    )
    """,
    # How many rows contain a lexeme. Lexemes of a single row are left out, which is half of the words of a language.
    """
    CREATE TABLE semantic.term (
        generation_id integer NOT NULL REFERENCES semantic.generation ON DELETE CASCADE,
        lexeme text COLLATE "C" NOT NULL,
        row_count bigint NOT NULL,
        PRIMARY KEY (generation_id, lexeme)
    )
    """,
    # Only roles that can read all rows can read statistics of all rows. These are views, not policies on the tables:
    # pg_dump stops at a table with policies unless its role can bypass them.
    """
    CREATE VIEW semantic.readable_lexicon WITH (security_barrier) AS
    SELECT * FROM semantic.lexicon
    WHERE generation_id IN (SELECT id FROM semantic.generation WHERE semantic.sees_all_v1(id))
    """,
    """
    CREATE VIEW semantic.readable_term WITH (security_barrier) AS
    SELECT * FROM semantic.term
    WHERE generation_id IN (SELECT id FROM semantic.generation WHERE semantic.sees_all_v1(id))
    """,
    "GRANT SELECT ON semantic.readable_lexicon, semantic.readable_term TO PUBLIC",
)

# $vector is the schema of pgvector.
FUNCTIONS = (
    # A tsvector can hold a megabyte. For a text with more, only the beginning is used.
    """
    CREATE FUNCTION semantic.lexemes_v1(config regconfig, content text) RETURNS tsvector
    LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
    AS $body$
    DECLARE
        beginning text := content;
    BEGIN
        LOOP
            BEGIN
                RETURN to_tsvector(config, beginning);
            EXCEPTION WHEN program_limit_exceeded THEN
                beginning := left(beginning, length(beginning) / 2);
            END;
        END LOOP;
    END
    $body$
    """,
    # The position of a lexeme in a sparse vector.
    """
    CREATE FUNCTION semantic.place_v1(lexeme text) RETURNS integer
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    RETURN (hashtextextended(lexeme COLLATE "C", 0) & 9223372036854775807) % 1000000000 + 1
    """,
    # The body is parsed when the function is created, so it follows pgvector to another schema. A body that is a string
    # would not.
    """
    CREATE FUNCTION semantic.sparsevec_v1(written text) RETURNS $vector.sparsevec
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    RETURN CAST(written AS $vector.sparsevec)
    """,
    # The document side of BM25. pgvector stores at most 16,000 numbers, so a longer list keeps the largest ones.
    """
    CREATE FUNCTION semantic.bm25_weights_v1(
        lexemes tsvector, average_length double precision, k1 double precision, b double precision
    ) RETURNS $vector.sparsevec
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
    AS $body$
        SELECT semantic.sparsevec_v1(
            '{' || coalesce(string_agg(place || ':' || weight, ',' ORDER BY place), '') || '}/1000000000'
        )
        FROM (
            SELECT
                semantic.place_v1(lexeme) AS place,
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
    $body$
    """,
    # The condition that two rows have the same key, with the operators of the primary key, whatever schema they are in.
    """
    CREATE FUNCTION semantic.equal_v1(source regclass, spec jsonb, one text, other text) RETURNS text
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
    RETURN (
        SELECT string_agg(
            format('%1$s%2$I OPERATOR(%3$I.%4$s) %5$s%2$I', one, attname, nspname, oprname, other), ' AND '
        )
        FROM pg_constraint
        JOIN pg_index ON indexrelid = conindid
        CROSS JOIN LATERAL unnest(conkey, CAST(indclass AS oid[])) AS part (number, class)
        JOIN pg_attribute ON attrelid = conrelid AND attnum = part.number
        JOIN pg_opclass ON pg_opclass.oid = part.class
        JOIN pg_amop ON amopfamily = opcfamily AND amoplefttype = opcintype AND amoprighttype = opcintype
            AND amopstrategy = 3
        JOIN pg_operator ON pg_operator.oid = amopopr
        JOIN pg_namespace ON pg_namespace.oid = oprnamespace
        WHERE conrelid = source AND contype = 'p'
            AND spec -> 'key' @> jsonb_build_array(jsonb_build_object('name', attname))
    )
    """,
    # The operators <, <=, =, >= and > of each key column, in key order, qualified with their schema; NULL if they are
    # in pg_catalog.
    """
    CREATE FUNCTION semantic.key_operators_v1(source regclass, spec jsonb) RETURNS jsonb
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
    RETURN (
        SELECT jsonb_agg(own.operators ORDER BY part.number)
        FROM jsonb_array_elements(spec -> 'key') WITH ORDINALITY AS part (value, number)
        LEFT JOIN LATERAL (
            SELECT (
                SELECT jsonb_agg(format('OPERATOR(%I.%s)', nspname, oprname) ORDER BY amopstrategy)
                FROM pg_amop
                JOIN pg_operator ON pg_operator.oid = amopopr
                JOIN pg_namespace ON pg_namespace.oid = oprnamespace
                WHERE amopfamily = opcfamily AND amoplefttype = opcintype AND amoprighttype = opcintype
                  AND amopstrategy BETWEEN 1 AND 5
                HAVING bool_or(nspname <> 'pg_catalog')
            ) AS operators
            FROM pg_constraint
            JOIN pg_index ON indexrelid = conindid
            CROSS JOIN LATERAL unnest(conkey, CAST(indclass AS oid[])) AS one (number, class)
            JOIN pg_attribute ON attrelid = conrelid AND attnum = one.number AND attname = part.value ->> 'name'
            JOIN pg_opclass ON pg_opclass.oid = one.class
                AND opcnamespace <> CAST('pg_catalog' AS regnamespace)  -- called often, and most are in pg_catalog
            WHERE conrelid = source AND contype = 'p'
        ) AS own ON true
    )
    """,
    # How many rows there are, and how many contain each of these lexemes. A role that row-level security keeps from
    # some rows learns nothing about those: it gets counts of the first 300 rows that it can see.
    """
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
        ) AS key, semantic.equal_v1(source, spec, 'visible.', 'own.') AS same_key
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
    $body$
    """,
    # The query side of BM25: what a row must match, and the inverse document frequencies of the query's terms. Only the
    # hundred rarest terms count. A lexeme without a count is in one row or in none.
    """
    CREATE FUNCTION semantic.bm25_query_v1(index_receipts regclass, config regconfig, query text, match text)
    RETURNS TABLE (matching tsquery, weights $vector.sparsevec)
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
                SELECT semantic.sparsevec_v1(
                    '{' || coalesce(string_agg(place || ':' || weight, ',' ORDER BY place), '') || '}/1000000000'
                )
                FROM (
                    SELECT semantic.place_v1(lexeme) AS place, sum(weight)::real AS weight FROM rarest GROUP BY place
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
    $body$
    """,
)

# Receipts of an index with BM25 have columns that the code of revision 0002 does not fill.
GUARD = """
    DO $body$
    DECLARE
        found text := (
            SELECT string_agg(DISTINCT semantic_index.name, ', ')
            FROM semantic.generation
            JOIN semantic.semantic_index ON semantic_index.id = generation.index_id
            WHERE jsonb_typeof(generation.spec -> 'lexical') = 'object'
        );
    BEGIN
        IF found IS NOT NULL THEN
            RAISE EXCEPTION 'Revision 0002 does not support semantic indexes with BM25 (%): drop them first with '
                            '`pg-semantic index drop`, or stay at revision 0003', found
            USING ERRCODE = 'dependent_objects_still_exist';
        END IF;
    END
    $body$
"""


def upgrade() -> None:
    for statement in TABLES:
        op.execute(statement)
    extension = "SELECT quote_ident(nspname) FROM pg_extension JOIN pg_namespace ON pg_namespace.oid = extnamespace"
    vector = op.get_bind().scalar(sa.text(f"{extension} WHERE extname = 'vector'"))
    for statement in FUNCTIONS:
        op.execute(statement.replace("$vector", vector))


def downgrade() -> None:
    op.execute(GUARD)
    op.execute(
        "DROP FUNCTION semantic.bm25_query_v1, semantic.term_counts_v1, semantic.key_operators_v1, semantic.equal_v1, "
        "semantic.bm25_weights_v1, semantic.sparsevec_v1, semantic.place_v1, semantic.lexemes_v1"
    )
    op.execute("DROP VIEW semantic.readable_term, semantic.readable_lexicon")
    op.execute("DROP TABLE semantic.term, semantic.lexicon")
