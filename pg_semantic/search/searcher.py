"""Text in, hits out: `Searcher` for a Session, `AsyncSearcher` for an AsyncSession."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray
from sqlalchemy import orm

from pg_semantic import database, errors, registry
from pg_semantic.declare import BoundIndex
from pg_semantic.encoders import Encoder, QueryEncoder
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
    """Searches by text: encodes it with ``encoder`` and ranks rows. Make one a process, for all of its threads.

    Searchers that are to share an encoder are given one `QueryEncoder` of it.
    """

    def __init__(self, encoder: Encoder | QueryEncoder) -> None:
        self.encoder = encoder if isinstance(encoder, QueryEncoder) else QueryEncoder(encoder)

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
        Raises `errors.QueryError` for an empty text and when too many queries wait for the encoder,
        `errors.IndexNotFound` when the index has not been created, and `errors.EncoderMismatch` when its vectors were
        made by another encoder.
        """
        request = _Request(index, limit, offset, where, exact)
        return self._find(session, request, self.encoder.encode(_not_empty(text)))

    def _find(self, session: orm.Session, request: _Request[T], vector: NDArray[np.float32]) -> list[Hit[T]]:
        with database.translated():
            _require_same_encoder(session, request.index, self.encoder)
            if not request.exact:
                hits = _run(session, request, vector, build=statements.ranked_knn)
                if len(hits) == request.limit:
                    return hits
            return _run(session, request, vector, build=statements.ranked_exact)


class AsyncSearcher:
    """As `Searcher`, for an AsyncSession; encoding happens on a thread, never on the event loop.

    Make one a process, for all of its tasks.
    """

    def __init__(self, encoder: Encoder | QueryEncoder) -> None:
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
        vector = await self._searcher.encoder.encode_async(_not_empty(text))
        return await session.run_sync(self._searcher._find, request, vector)  # noqa: SLF001 - the pair is one


def _not_empty(text: str) -> str:
    if not text.strip():
        raise errors.QueryError("The query is empty: give a text to search for.")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise errors.QueryError("The query has half of a surrogate pair: it is not text that can be encoded.") from None
    return text


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


def _require_same_encoder(session: orm.Session, index: BoundIndex[Any], encoder: QueryEncoder) -> None:
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
