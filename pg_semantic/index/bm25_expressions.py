"""BM25 in stock Postgres: SQL expressions for documents and queries. The functions they call are in ``migrations/``.

A row's score is the inner product of two sparse vectors: the weights of the row's lexemes, stored with them, and the
inverse document frequencies of the query's lexemes, computed when the statement runs. For a lexeme that n of N rows
contain, with frequency f in a row of L lexemes (without stop words) and an average row length of A::

    ln(1 + (N - n + 0.5) / (n + 0.5)) * f * (k1 + 1) / (f + k1 * (1 - b + b * L / A))

This is the formula of Robertson and Zaragoza (2009) with Lucene's inverse document frequency, which is never negative.
"""

import re
from typing import Literal, get_args

import sqlalchemy as sa
from pgvector.sqlalchemy import SPARSEVEC
from sqlalchemy.dialects.postgresql import REGCONFIG, TSQUERY, TSVECTOR

from pg_semantic import errors
from pg_semantic.index import chunk_tables
from pg_semantic.index.chunk_tables import Tables
from pg_semantic.index.spec import Lexical

Match = Literal["any", "all", "phrase", "websearch"]

# The average length until statistics exist: about the length of an abstract.
_LENGTH_AT_FIRST = 100.0

# A longer query keeps the server busy for seconds, or exceeds its stack depth.
_MOST_CHARACTERS_IN_ORDER = 10_000
# Postgres parses up to 32 nested operators: these minus signs, an implicit AND and an OR.
_TOO_MANY_NOTS = re.compile(r"(?:-[\s!&|()]*){31}")

_GENERATION = sa.table("generation", sa.column("id"), sa.column("receipts", sa.Text), schema="semantic")
_LEXICON = sa.table(
    "readable_lexicon", sa.column("generation_id"), sa.column("weights_length", sa.Double), schema="semantic"
)


def lexemes(lexical: Lexical, text: sa.ColumnElement[str]) -> sa.ColumnElement[str]:
    """Returns the SQL expression of a text's lexemes and their positions.

    If the lexemes exceed one megabyte, only those at the beginning of the text are kept.
    """
    return sa.func.semantic.lexemes_v1(config(lexical), text, type_=TSVECTOR)


def weights(
    lexical: Lexical, of: sa.ColumnElement[str], average_length: sa.ColumnElement[float]
) -> sa.ColumnElement[str]:
    """Returns the SQL expression of the BM25 weights of a row's lexemes, a sparse vector.

    Args:
        lexical: The BM25 parameters.
        of: The row's lexemes, a tsvector.
        average_length: The average length of a row, in lexemes.
    """
    parameters = (sa.cast(number, sa.Double) for number in (lexical.k1, lexical.b))
    return sa.func.semantic.bm25_document_weights_v1(
        of, average_length, *parameters, type_=SPARSEVEC(chunk_tables.PLACES)
    )


def weights_length(tables: Tables) -> sa.ColumnElement[float]:
    """Returns the SQL expression of the average row length, in lexemes, that new weights are computed with."""
    known = (
        sa.select(_LEXICON.c.weights_length)
        .join(_GENERATION, _GENERATION.c.id == _LEXICON.c.generation_id)
        .where(_GENERATION.c.receipts == _receipts(tables))
        .scalar_subquery()
    )
    return sa.func.coalesce(known, sa.cast(_LENGTH_AT_FIRST, sa.Double), type_=sa.Double)


def check(text: str, match: Match) -> None:
    """Checks the query and its match mode.

    Raises:
        errors.QueryError: The mode is unknown, or the text is too long for it or has too many minus signs in a row.
    """
    if match not in get_args(Match):
        raise errors.QueryError(f"match={match!r} is unknown: use one of {', '.join(get_args(Match))}.")
    if match in {"phrase", "websearch"} and len(text) > _MOST_CHARACTERS_IN_ORDER:
        raise errors.QueryError(
            f"match={match!r} takes at most {_MOST_CHARACTERS_IN_ORDER} characters, and the query has {len(text)}: "
            "shorten it, or use match='any'."
        )
    if match == "websearch" and _TOO_MANY_NOTS.search(text):
        raise errors.QueryError("A word in the query is negated too often: put a single minus sign before it.")


def query(tables: Tables, lexical: Lexical, text: sa.ColumnElement[str], *, match: Match) -> sa.CTE:
    """Returns a CTE of one row: the tsquery that lexemes must match, and the weights of the query's lexemes.

    Args:
        tables: The tables to search.
        lexical: The text search configuration and BM25 parameters.
        text: The query text.
        match: How the words of the query must match.
    """
    asked = sa.func.semantic.bm25_query_weights_v1(
        _receipts(tables), config(lexical), sa.cast(text, sa.Text), sa.cast(sa.literal(match), sa.Text)
    ).table_valued(sa.column("matching", TSQUERY), sa.column("weights", SPARSEVEC(chunk_tables.PLACES)))
    # A materialized CTE is computed once, however often the statement refers to it.
    return sa.select(asked.c.matching, asked.c.weights).cte().prefix_with("MATERIALIZED")


def matches(of: sa.ColumnElement[str], asked: sa.CTE) -> sa.ColumnElement[bool]:
    """Returns the condition that a row's lexemes match the query. The lexical index supports it."""
    return of.bool_op("@@")(sa.select(asked.c.matching).scalar_subquery())


def score(of: sa.ColumnElement[str], asked: sa.CTE) -> sa.ColumnElement[float]:
    """Returns the BM25 score of a row's weights. pgvector's `<#>` is the negative inner product, hence the minus."""
    return -of.op("<#>", return_type=sa.Double())(sa.select(asked.c.weights).scalar_subquery())


def config(lexical: Lexical) -> sa.ColumnElement[str]:
    """Returns the text search configuration as a literal rather than a bind, so that the planner knows it."""
    return sa.cast(sa.bindparam(None, lexical.config, sa.Text, literal_execute=True), REGCONFIG)


def _receipts(tables: Tables) -> sa.ColumnElement[str]:
    if tables.generation is not None:
        return sa.select(_GENERATION.c.receipts).where(_GENERATION.c.id == tables.generation).scalar_subquery()
    return chunk_tables.RegClass(tables.receipts)
