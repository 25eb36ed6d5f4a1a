"""BM25 in stock Postgres: lexemes, document weights as sparse vectors, and the statistics of terms."""

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
    # How many rows have a lexeme; those of one row alone are left out, which is half of the words of a language.
    """
    CREATE TABLE semantic.term (
        generation_id integer NOT NULL REFERENCES semantic.generation ON DELETE CASCADE,
        lexeme text COLLATE "C" NOT NULL,
        row_count bigint NOT NULL,
        PRIMARY KEY (generation_id, lexeme)
    )
    """,
    # Who may read the lexemes of rows may read their statistics, and nobody else.
    "ALTER TABLE semantic.lexicon ENABLE ROW LEVEL SECURITY",
    "ALTER TABLE semantic.term ENABLE ROW LEVEL SECURITY",
    """
    CREATE POLICY reader ON semantic.lexicon FOR SELECT USING (
        generation_id IN (SELECT id FROM semantic.generation WHERE has_table_privilege(receipts, 'SELECT'))
    )
    """,
    """
    CREATE POLICY reader ON semantic.term FOR SELECT USING (
        generation_id IN (SELECT id FROM semantic.generation WHERE has_table_privilege(receipts, 'SELECT'))
    )
    """,
    "GRANT SELECT ON semantic.lexicon, semantic.term TO PUBLIC",
)

# $vector is the schema that pgvector is in.
FUNCTIONS = (
    # A tsvector has room for a megabyte; of a text with more, the beginning is taken.
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
    # Where a lexeme stands in a sparse vector.
    """
    CREATE FUNCTION semantic.place_v1(lexeme text) RETURNS integer
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    RETURN (hashtextextended(lexeme COLLATE "C", 0) & 9223372036854775807) % 1000000000 + 1
    """,
    # The document's side of BM25; pgvector takes 16,000 numbers, so a longer list keeps its largest.
    """
    CREATE FUNCTION semantic.bm25_weights_v1(
        lexemes tsvector, average_length double precision, k1 double precision, b double precision
    ) RETURNS $vector.sparsevec
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, $vector, pg_temp
    AS $body$
        SELECT ('{' || coalesce(string_agg(place || ':' || weight, ',' ORDER BY place), '') || '}/1000000000')
            ::sparsevec
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
    # The query's side: what a row has to match, and the inverse document frequencies of the query's terms, of which
    # the hundred rarest count. A lexeme without a count is one of one row, or of none.
    """
    CREATE FUNCTION semantic.bm25_query_v1(index_receipts regclass, config regconfig, query text, match text)
    RETURNS TABLE (matching tsquery, weights $vector.sparsevec)
    LANGUAGE sql STABLE PARALLEL SAFE ROWS 1
    SET search_path = pg_catalog, $vector, pg_temp SET client_min_messages = 'error'
    AS $body$
        WITH rarest AS (
            SELECT
                asked.lexeme,
                coalesce(cardinality(asked.positions), 1)
                    * ln(1 + (greatest(known.total, found.rows) - found.rows + 0.5) / (found.rows + 0.5)) AS weight
            FROM unnest(to_tsvector(config, query)) AS asked
            CROSS JOIN (
                SELECT max(generation.id) AS generation_id, coalesce(max(lexicon.row_count), 1) AS total
                FROM semantic.generation
                LEFT JOIN semantic.lexicon ON lexicon.generation_id = generation.id
                WHERE generation.receipts = index_receipts
            ) AS known
            CROSS JOIN LATERAL (
                SELECT coalesce(max(term.row_count), 1)::double precision AS rows
                FROM semantic.term
                WHERE term.generation_id = known.generation_id AND term.lexeme = asked.lexeme
            ) AS found
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
                SELECT ('{' || coalesce(string_agg(place || ':' || weight, ',' ORDER BY place), '') || '}/1000000000')
                FROM (
                    SELECT semantic.place_v1(lexeme) AS place, sum(weight)::real AS weight FROM rarest GROUP BY place
                ) AS placed
            )::sparsevec
        FROM (
            SELECT coalesce(
                string_agg('''' || replace(replace(lexeme, '\\', '\\\\'), '''', '''''') || '''', ' | '), ''
            )::tsquery AS terms
            FROM rarest
        ) AS any_of
    $body$
    """,
)

# What is written for these receipts has columns that the code of revision 0002 does not fill.
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
            RAISE EXCEPTION 'There are semantic indexes with BM25, which revision 0002 does not know (%): drop them '
                            'first with `pg-semantic index drop`, or stay', found
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
    op.execute("DROP FUNCTION semantic.bm25_query_v1, semantic.bm25_weights_v1, semantic.place_v1, semantic.lexemes_v1")
    op.execute("DROP TABLE semantic.term, semantic.lexicon")
