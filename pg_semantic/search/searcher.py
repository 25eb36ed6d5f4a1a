"""Text in, hits out: `Searcher` for a Session, `AsyncSearcher` for an AsyncSession."""

import asyncio
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray
from sqlalchemy import orm

from pg_semantic import database, errors, registry
from pg_semantic.declare import BoundIndex
from pg_semantic.encoders import Encoder
from pg_semantic.search import statements

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Hit(Generic[T]):
    """A row that was found.

    ``score`` is what the hits are ordered by, higher is better; ``scores`` has the raw value of each stage
    (``dense``: cosine similarity, -1 to 1). ``passage`` is the chunk that matched best and ``ordinal`` its place
    in the row.
    """

    entity: T
    score: float
    scores: Mapping[str, float]
    passage: str
    ordinal: int


@dataclass(frozen=True, slots=True)
class _Request(Generic[T]):
    index: BoundIndex[T]
    limit: int
    offset: int
    where: Sequence[sa.ColumnExpressionArgument[bool]]
    exact: bool


class Searcher:
    """Searches by text: encodes it with ``encoder`` and ranks rows. May be shared between threads."""

    def __init__(self, encoder: Encoder) -> None:
        self.encoder = encoder
        self._encoding = threading.Lock()

    def search(  # noqa: PLR0913 - what a search can be told
        self,
        session: orm.Session,
        index: BoundIndex[T],
        text: str,
        *,
        limit: int = 10,
        offset: int = 0,
        where: Sequence[sa.ColumnExpressionArgument[bool]] = (),
        exact: bool = False,
    ) -> list[Hit[T]]:
        """The rows nearest in meaning to a text, best first: ``limit`` of them whenever that many match ``where``.

        ``exact`` computes every distance instead of walking the vector index; so does a search that came out short.
        Raises `errors.QueryError` for an empty text, `errors.IndexNotFound` when the index has not been created, and
        `errors.EncoderMismatch` when its vectors were made by another encoder.
        """
        request = _Request(index, limit, offset, where, exact)
        return self._find(session, request, self._vector(text))

    def _vector(self, text: str) -> NDArray[np.float32]:
        if not text.strip():
            raise errors.QueryError("The query is empty: give a text to search for.")
        with self._encoding:
            vector: NDArray[np.float32] = self.encoder.encode_queries([text])[0]
        return vector

    def _find(self, session: orm.Session, request: _Request[T], vector: NDArray[np.float32]) -> list[Hit[T]]:
        with database.translated():
            _require_same_encoder(session, request.index, self.encoder)
            if not request.exact:
                hits = _run(session, request, vector, build=statements.ranked_knn)
                if len(hits) == request.limit:
                    return hits
            return _run(session, request, vector, build=statements.ranked_exact)


class AsyncSearcher:
    """As `Searcher`, for an AsyncSession; encoding happens on a thread, never on the event loop."""

    def __init__(self, encoder: Encoder) -> None:
        self._searcher = Searcher(encoder)

    async def search(  # noqa: PLR0913 - as above
        self,
        session: "AsyncSession",
        index: BoundIndex[T],
        text: str,
        *,
        limit: int = 10,
        offset: int = 0,
        where: Sequence[sa.ColumnExpressionArgument[bool]] = (),
        exact: bool = False,
    ) -> list[Hit[T]]:
        """As `Searcher.search`."""
        request = _Request(index, limit, offset, where, exact)
        vector = await asyncio.to_thread(self._searcher._vector, text)  # noqa: SLF001 - the pair is one
        return await session.run_sync(self._searcher._find, request, vector)  # noqa: SLF001


def _run(
    session: orm.Session,
    request: _Request[T],
    vector: NDArray[np.float32],
    *,
    build: Callable[..., statements.Ranked[T]],
) -> list[Hit[T]]:
    ranked = build(request.index, vector, limit=request.limit, offset=request.offset)
    statement = ranked.statement.add_columns(ranked.content, ranked.ordinal).where(*request.where)
    hits = [
        Hit(entity, score, {"dense": score}, passage, ordinal)
        for entity, score, passage, ordinal in session.execute(statement)
    ]
    return sorted(hits, key=lambda hit: (-hit.score, sa.inspect(hit.entity).identity))


def _require_same_encoder(session: orm.Session, index: BoundIndex[Any], encoder: Encoder) -> None:
    known = registry.encoder_of(session.connection(), index.tables.chunks)
    same = known.dimensions == encoder.dimensions and known.fingerprint in {None, encoder.fingerprint}
    if not same:
        raise errors.EncoderMismatch(
            f"Semantic index {index.name!r} has vectors of {known.reference!r} ({known.dimensions} dimensions, "
            f"fingerprint {_short(known.fingerprint)}); the searcher has {encoder.reference!r} "
            f"({encoder.dimensions} dimensions, fingerprint {_short(encoder.fingerprint)}). "
            "Search with the same encoder."
        )


def _short(fingerprint: str | None) -> str:
    return (fingerprint or "not recorded yet")[:16]
