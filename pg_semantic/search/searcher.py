"""Text in, hits out: `Searcher` for a Session, `AsyncSearcher` for an AsyncSession.

Both are thin: what is asked for is a `Request`, the statement and the reading of its rows are the same for both.
"""

import asyncio
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray
from sqlalchemy import orm

from pg_semantic import database, errors, registry
from pg_semantic.declare import BoundIndex
from pg_semantic.encoders import Encoder, QueryEncoder
from pg_semantic.likeness import Examples
from pg_semantic.search import hits, refine, request
from pg_semantic.search.hits import Hit
from pg_semantic.search.legs import Where
from pg_semantic.search.request import Mode, Options, Request

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession

T = TypeVar("T")


class Searcher:
    """Searches by text: encodes it with ``encoder`` and ranks rows. Make one a process, for all of its threads.

    Searchers that are to share an encoder are given one `QueryEncoder` of it. One without an encoder searches by words,
    and by examples.
    """

    def __init__(self, encoder: Encoder | QueryEncoder | None = None) -> None:
        self.encoder = encoder if encoder is None or isinstance(encoder, QueryEncoder) else QueryEncoder(encoder)

    def search(  # noqa: PLR0913 - what a search can be told
        self,
        session: orm.Session,
        index: BoundIndex[T],
        query: str | Examples,
        *,
        limit: int = 10,
        offset: int = 0,
        where: Where = (),
        mode: Mode = "dense",
        exact: bool = False,
        options: Options = Options(),  # noqa: B008 - frozen
    ) -> list[Hit[T]]:
        """The rows that are nearest to a query, best first: ``limit`` of them whenever that many match ``where``.

        ``mode`` ranks by meaning (``dense``), by words (``lexical``: BM25) or by both (``hybrid``). The query is a
        text, or ``index.similar_to(...)`` for rows like others. ``exact`` computes every distance instead of walking
        the vector index; so does a search that came out short. `Options` has the rest.

        Raises `errors.QueryError` for a text that can not be searched for, `errors.EncoderUnavailable` when too many
        queries wait for the encoder or too many searches for the reranker, `errors.IndexNotFound` when the index has
        not been created, and `errors.EncoderMismatch` when its vectors were made by another encoder.
        """
        asked = Request(index, query, limit, offset, where, mode, exact, options)
        vector = self._encoder().encode(asked.text) if asked.needs_encoder else None
        found, scores, rerank = self._find(session, asked, vector), None, asked.options.rerank
        if rerank and found:
            passages = [hit.passage for hit in found]
            scores = rerank.reranker.score(asked.text, passages, seconds=rerank.seconds)
        return request.page_of(asked, found, scores)

    def _find(self, session: orm.Session, asked: Request[T], vector: NDArray[np.float32] | None) -> list[Hit[T]]:
        with database.translated():
            if asked.needs_encoder:
                _require_same_encoder(session, asked.index, self._encoder())
            found = session.execute(request.statement(asked, vector, exact=asked.exact)).all()
            if asked.is_short(found):
                found = session.execute(request.statement(asked, vector, exact=True)).all()
        return refine.in_order(hits.read(found))

    def _encoder(self) -> QueryEncoder:
        if self.encoder is None:
            raise errors.QueryError("This searcher has no encoder: make it with one, or search with mode='lexical'.")
        return self.encoder


class AsyncSearcher:
    """As `Searcher`, for an AsyncSession; encoding happens on a thread, never on the event loop.

    Make one a process, for all of its tasks.
    """

    def __init__(self, encoder: Encoder | QueryEncoder | None = None) -> None:
        self._searcher = Searcher(encoder)

    async def search(  # noqa: PLR0913 - as above
        self,
        session: "AsyncSession",
        index: BoundIndex[T],
        query: str | Examples,
        *,
        limit: int = 10,
        offset: int = 0,
        where: Where = (),
        mode: Mode = "dense",
        exact: bool = False,
        options: Options = Options(),  # noqa: B008 - frozen
    ) -> list[Hit[T]]:
        """As `Searcher.search`."""
        asked = Request(index, query, limit, offset, where, mode, exact, options)
        searcher = self._searcher
        vector = await searcher._encoder().encode_async(asked.text) if asked.needs_encoder else None  # noqa: SLF001
        found = await session.run_sync(searcher._find, asked, vector)  # noqa: SLF001 - the pair is one
        scores, rerank = None, asked.options.rerank
        if rerank and found:
            passages = [hit.passage for hit in found]
            scores = await rerank.reranker.score_async(asked.text, passages, seconds=rerank.seconds)
        if options.diverse:  # half a second for a thousand hits
            return await asyncio.to_thread(request.page_of, asked, found, scores)
        return request.page_of(asked, found, scores)


def _require_same_encoder(session: orm.Session, index: BoundIndex[Any], encoder: QueryEncoder) -> None:
    connection = session.connection(bind_arguments={"mapper": sa.inspect(index.entity, raiseerr=True).mapper})
    known = registry.encoder_of(connection, index.spec)
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
