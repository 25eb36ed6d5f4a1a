"""Search results: hits with their scores and passages, all read by the statement that ranks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray
from sqlalchemy.dialects.postgresql import ARRAY, aggregate_order_by

from pg_semantic.index import bm25_expressions, distances, keys
from pg_semantic.index.bound_index import BoundIndex
from pg_semantic.index.spec import Lexical
from pg_semantic.search import fusion, headlines, snippets, statements
from pg_semantic.search.snippets import Snippet
from pg_semantic.search.statements import QueryLike

T = TypeVar("T")

_ORDER = {"step", "score"}


@dataclass(frozen=True, slots=True)
class Passage:
    """A chunk of a hit.

    Attributes:
        content: The text of the chunk.
        ordinal: Orders the chunks of the row; ordinals have gaps.
    """

    content: str
    ordinal: int


@dataclass(frozen=True, slots=True)
class Hit(Generic[T]):
    """A row that a search found.

    Attributes:
        entity: The row, as an instance of the mapped class.
        score: The score that the hits are ordered by, unless `Diverse` picked them; higher is better.
        scores: The raw score of each stage that found the row: ``dense`` (cosine similarity, -1 to 1), ``lexical``
            (BM25, 0 or more), ``fused`` (useful only for ordering) and ``rerank`` (a probability or a logit, as
            `Reranker.score_type` says).
        passages: The best chunks of the row, best first; one by default.
        snippet: The part of the best chunk that has the words of the query, with ``Options(snippets=True)``.
        headline: The beginning of the row's first text column that isn't blank, on one line, with
            ``Options(headlines=True)``; None if all are blank.
        vector: The vector of the best chunk, with ``Options(diverse=...)``.
        key: The primary key as text, with ``Options(keys=True)``. A key of several columns is a JSON array of texts.
    """

    entity: T
    score: float
    scores: Mapping[str, float]
    passages: tuple[Passage, ...]
    snippet: Snippet | None = None
    headline: str | None = None
    vector: NDArray[np.float32] | None = field(default=None, repr=False, compare=False)
    key: str | None = None

    @property
    def passage(self) -> str:
        """The text of the best chunk; empty if there is none."""
        return self.passages[0].content if self.passages else ""

    @property
    def ordinal(self) -> int:
        """The ordinal of the best chunk; 0 if there is none."""
        return self.passages[0].ordinal if self.passages else 0


@dataclass(frozen=True, slots=True)
class Extras:
    """What to read along with a row: passages, the vector and the snippet of the best one, a headline, the key."""

    passages: int = 1
    vectors: bool = False
    snippet: bool = False
    headline: bool = False
    key: bool = False


def statement(
    index: BoundIndex[T],
    found: sa.FromClause,
    relevance: sa.ColumnElement[float],
    *,
    text: sa.ColumnElement[str],
    extras: Extras,
) -> "sa.Select[*tuple[Any, ...]]":
    """Selects the found rows with their scores and best passages; ``relevance`` orders the chunks of a row."""
    chunks = index.tables.chunks.c
    best_first = (sa.desc(relevance), chunks.ordinal)
    key = [found.c[f"key_{number}"] for number in range(len(index.spec.key))]
    best = sa.select(
        _in_order(chunks.content, best_first)[1 : extras.passages].label("contents"),
        _in_order(chunks.ordinal, best_first)[1 : extras.passages].label("ordinals"),
        *([_in_order(chunks.vector, best_first)[1].label("vector")] if extras.vectors else []),
    ).where(*(a == b for a, b in zip(index.tables.chunk_key, key, strict=True)))
    lateral = best.correlate(found).lateral()
    values = [column for column in found.c if not column.name.startswith("key_") and column.name not in _ORDER]
    if extras.snippet:
        config = bm25_expressions.config(index.spec.lexical or Lexical("simple"))
        values.append(snippets.fragments(config, lateral.c.contents[1], text).label("snippet"))
    if extras.headline:
        values.append(headlines.beginning(index.spec, index.tables.source).label("headline"))
    if extras.key:
        values.append(keys.as_text(index.tables.source_key).label("key"))
    return fusion.rows_of(index, found).add_columns(*values, *lateral.c).join(lateral, sa.true())


def by_meaning(index: BoundIndex[T], vector: QueryLike) -> sa.ColumnElement[float]:
    """Returns SQL that orders chunks by meaning: the negated distance to the query vector."""
    asked = statements.query_vector(index, vector)
    return -distances.computed_distance(index.tables.chunks.c.vector, asked)


def by_words(index: BoundIndex[T], text: sa.ColumnElement[str]) -> sa.ColumnElement[float]:
    """Returns SQL that orders chunks by words: BM25 with the statistics of the rows; 0 if the index has no BM25."""
    lexical = index.spec.lexical
    if lexical is None:
        return sa.literal(0.0)
    query = bm25_expressions.query(index.tables, lexical, text, match="any")
    lexemes = bm25_expressions.lexemes(lexical, index.tables.chunks.c.content)
    return bm25_expressions.score(
        bm25_expressions.weights(lexical, lexemes, bm25_expressions.weights_length(index.tables)), query
    )


def read(rows: Sequence[sa.Row[*tuple[Any, ...]]]) -> list[Hit[Any]]:
    """Returns the hits of a result, in its order."""
    return [_hit(row) for row in rows]


def _hit(row: sa.Row[*tuple[Any, ...]]) -> Hit[Any]:
    found = row._mapping  # noqa: SLF001 - public in all but name
    scores = {name: found[name] for name in ("dense", "lexical") if found.get(name) is not None}
    if "dense" in found and "lexical" in found:
        scores["fused"] = found["score"]
    pieces = zip(found["contents"] or (), found["ordinals"] or (), strict=True)
    vector = np.asarray(found["vector"], np.float32) if found.get("vector") is not None else None
    snippet = snippets.parse(found["snippet"]) if found.get("snippet") is not None else None
    headline = headlines.on_one_line(found["headline"]) if found.get("headline") is not None else None
    passages = tuple(Passage(*piece) for piece in pieces)
    return Hit(row[0], found["score"], scores, passages, snippet, headline, vector, found.get("key"))


def _in_order(column: sa.ColumnElement[Any], order: Sequence[sa.ColumnElement[Any]]) -> sa.ColumnElement[Any]:
    return sa.func.array_agg(aggregate_order_by(column, *order), type_=ARRAY(column.type))
