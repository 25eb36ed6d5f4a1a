"""BM25 in stock Postgres: the SQL expressions of its two sides, which migration 0003 has the functions for.

A row's score is the inner product of two sparse vectors: the weights of its lexemes, stored beside them, and the
inverse document frequencies of the query's, computed as the statement runs. With N rows, n of them having the lexeme,
f its frequency in a row of length L (in lexemes, stop words left out) and A the average length::

    ln(1 + (N - n + 0.5) / (n + 0.5)) * f * (k1 + 1) / (f + k1 * (1 - b + b * L / A))

That is the formula of Robertson and Zaragoza (2009) with Lucene's inverse document frequency, which is never negative.
"""

from typing import Literal, get_args

import sqlalchemy as sa
from pgvector.sqlalchemy import SPARSEVEC
from sqlalchemy.dialects.postgresql import REGCONFIG, TSQUERY, TSVECTOR

from pg_semantic import errors
from pg_semantic.index import chunk_tables
from pg_semantic.index.chunk_tables import Tables
from pg_semantic.index.spec import Lexical

Match = Literal["any", "all", "phrase", "websearch"]

# Until there are statistics; about the length of an abstract.
_LENGTH_AT_FIRST = 100.0

# Longer ones keep a server busy for seconds, or are beyond its stack.
_MOST_CHARACTERS_IN_ORDER = 10_000

_GENERATION = sa.table("generation", sa.column("id"), sa.column("receipts", sa.Text), schema="semantic")
_LEXICON = sa.table(
    "readable_lexicon", sa.column("generation_id"), sa.column("weights_length", sa.Double), schema="semantic"
)


def lexemes(lexical: Lexical, text: sa.ColumnElement[str]) -> sa.ColumnElement[str]:
    """The lexemes of a text with their places; of a text with more than a megabyte of them, those it begins with."""
    return sa.func.semantic.lexemes_v1(config(lexical), text, type_=TSVECTOR)


def weights(
    lexical: Lexical, of: sa.ColumnElement[str], average_length: sa.ColumnElement[float]
) -> sa.ColumnElement[str]:
    """The weights of a row's lexemes, a sparse vector."""
    parameters = (sa.cast(number, sa.Double) for number in (lexical.k1, lexical.b))
    return sa.func.semantic.bm25_weights_v1(of, average_length, *parameters, type_=SPARSEVEC(chunk_tables.PLACES))


def weights_length(tables: Tables) -> sa.ColumnElement[float]:
    """The average length that weights are computed with at this time."""
    known = (
        sa.select(_LEXICON.c.weights_length)
        .join(_GENERATION, _GENERATION.c.id == _LEXICON.c.generation_id)
        .where(_GENERATION.c.receipts == _receipts(tables))
        .scalar_subquery()
    )
    return sa.func.coalesce(known, sa.cast(_LENGTH_AT_FIRST, sa.Double), type_=sa.Double)


def check(text: str, match: Match) -> None:
    """Raises `errors.QueryError` for a way to match that there is not, or that is not for so long a text."""
    if match not in get_args(Match):
        raise errors.QueryError(f"match={match!r} is unknown: give one of {', '.join(get_args(Match))}.")
    if match in {"phrase", "websearch"} and len(text) > _MOST_CHARACTERS_IN_ORDER:
        raise errors.QueryError(
            f"match={match!r} takes at most {_MOST_CHARACTERS_IN_ORDER} characters, not {len(text)}: ask with a part "
            "of the text, or with match='any'."
        )


def query(tables: Tables, lexical: Lexical, text: sa.ColumnElement[str], *, match: Match) -> sa.CTE:
    """One row: what a row's lexemes have to match, and the weights of the query's."""
    asked = sa.func.semantic.bm25_query_v1(
        _receipts(tables), config(lexical), sa.cast(text, sa.Text), sa.cast(sa.literal(match), sa.Text)
    ).table_valued(sa.column("matching", TSQUERY), sa.column("weights", SPARSEVEC(chunk_tables.PLACES)))
    # a materialised one is computed once, however many places of the statement refer to it
    return sa.select(asked.c.matching, asked.c.weights).cte().prefix_with("MATERIALIZED")


def matches(of: sa.ColumnElement[str], asked: sa.CTE) -> sa.ColumnElement[bool]:
    """Whether a row's lexemes match; the index on them serves it."""
    return of.bool_op("@@")(sa.select(asked.c.matching).scalar_subquery())


def score(of: sa.ColumnElement[str], asked: sa.CTE) -> sa.ColumnElement[float]:
    """The BM25 score of a row's weights; pgvector's operator gives it with a minus, so that less is better."""
    return -of.op("<#>", return_type=sa.Double())(sa.select(asked.c.weights).scalar_subquery())


def config(lexical: Lexical) -> sa.ColumnElement[str]:
    """The text search configuration, a literal, so that the planner knows it."""
    return sa.cast(sa.bindparam(None, lexical.config, sa.Text, literal_execute=True), REGCONFIG)


def _receipts(tables: Tables) -> sa.ColumnElement[str]:
    if tables.generation is not None:
        return sa.select(_GENERATION.c.receipts).where(_GENERATION.c.id == tables.generation).scalar_subquery()
    return chunk_tables.RegClass(tables.receipts)
