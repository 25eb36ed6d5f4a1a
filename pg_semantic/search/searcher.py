"""Text in, hits out: `Searcher` for a Session, `AsyncSearcher` for an AsyncSession.

Both are thin: what is asked for is a `Request`, the statement and the reading of its rows are the same for both.
"""

import asyncio
import functools
import weakref
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray
from sqlalchemy import orm

from pg_semantic import database, errors, registry
from pg_semantic.declare import BoundIndex
from pg_semantic.encoders import Encoder, QueryEncoder
from pg_semantic.likeness import Examples
from pg_semantic.registry import KnownEncoder
from pg_semantic.search import hits, refine, request
from pg_semantic.search.hits import Hit
from pg_semantic.search.legs import Where
from pg_semantic.search.request import Mode, Options, Request
from pg_semantic.spec import IndexSpec

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession

T = TypeVar("T")
Vector: TypeAlias = NDArray[np.float32]
Statement: TypeAlias = "sa.Select[*tuple[Any, ...]]"

_KEPT = 128  # statements, by their shapes


class Searcher:
    """Searches by text: encodes it with ``encoder`` and ranks rows. Make one a process, for all of its threads.

    Searchers that are to share an encoder are given one `QueryEncoder` of it. One without an encoder searches by words,
    and by examples.
    """

    def __init__(self, encoder: Encoder | QueryEncoder | None = None) -> None:
        self.encoder = encoder if encoder is None or isinstance(encoder, QueryEncoder) else QueryEncoder(encoder)
        self._seen: weakref.WeakKeyDictionary[sa.Engine, set[IndexSpec]] = weakref.WeakKeyDictionary()
        self._of_shape = functools.lru_cache(_KEPT)(request.statement)

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
        vector = self._encoder_for(asked).encode(asked.text) if asked.needs_encoder else None
        found = self._find(session, asked, vector=vector, statement=self._statement(asked, exact=asked.exact))
        scores, rerank = None, options.rerank
        if rerank and found:
            passages = [hit.passage for hit in found]
            scores = rerank.reranker.score(asked.text, passages, seconds=rerank.seconds)
        return request.page_of(asked, found, scores)

    def _find(
        self, session: orm.Session, asked: Request[T], *, vector: Vector | None, statement: Statement
    ) -> list[Hit[T]]:
        values = asked.values(vector)
        with database.translated():
            if asked.needs_encoder:
                self._check_once(session, asked)
            found = session.execute(statement, values).all()
            if asked.is_short(found):
                found = session.execute(self._statement(asked, exact=True), values).all()
            if asked.needs_encoder and not self._is_of_our_encoder(found):
                _require_same_encoder(session, asked.index, self._encoder_for(asked))
        return refine.in_order(hits.read(found))

    def _statement(self, asked: Request[T], *, exact: bool) -> Statement:
        shape = asked.shape(exact=exact)
        if asked.where or asked.examples:
            statement = request.statement(shape, where=asked.where, examples=asked.examples)
        else:
            statement = self._of_shape(shape)
        return statement.options(*asked.options.load) if asked.options.load else statement

    def _check_once(self, session: orm.Session, asked: Request[T]) -> None:
        """Looks for the index and its encoder at the first search; later ones learn that with their rows."""
        bind = session.get_bind(sa.inspect(asked.index.entity, raiseerr=True).mapper)
        seen = self._seen.setdefault(bind.engine, set())
        if asked.index.spec not in seen:
            _require_same_encoder(session, asked.index, self._encoder_for(asked))
            seen.add(asked.index.spec)

    def _is_of_our_encoder(self, found: Sequence[sa.Row[Any]]) -> bool:
        known = found[0]._mapping["fingerprint"] if found else None  # noqa: SLF001 - public in all but name
        return bool(found) and (known is None or (self.encoder is not None and known == self.encoder.fingerprint))

    def _encoder_for(self, asked: Request[Any]) -> QueryEncoder:
        if self.encoder is None:
            raise errors.QueryError("This searcher has no encoder: make it with one, or search with mode='lexical'.")
        known = asked.index.spec.encoder
        if self.encoder.dimensions != known.dimensions:
            raise _mismatch(asked.index, KnownEncoder(known.reference, known.dimensions, None), self.encoder)
        return self.encoder


class AsyncSearcher:
    """As `Searcher`, for an AsyncSession; encoding happens on a thread, never on the event loop.

    Make one a process, for all of its tasks.
    """

    def __init__(self, encoder: Encoder | QueryEncoder | None = None) -> None:
        self._searcher = Searcher(encoder)
        # Queries are encoded in batches; that statements are built in turns lets the event loop go on in between.
        self._turns: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = weakref.WeakKeyDictionary()

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
        encoder = searcher._encoder_for(asked) if asked.needs_encoder else None  # noqa: SLF001 - the pair is one
        vector = await encoder.encode_async(asked.text) if encoder else None
        async with self._turns.setdefault(asyncio.get_running_loop(), asyncio.Lock()):
            statement = searcher._statement(asked, exact=asked.exact)  # noqa: SLF001 - the pair is one
            await asyncio.sleep(0)
        find = searcher._find  # noqa: SLF001 - the pair is one
        found = await session.run_sync(find, asked, vector=vector, statement=statement)
        scores, rerank = None, options.rerank
        if rerank and found:
            passages = [hit.passage for hit in found]
            scores = await rerank.reranker.score_async(asked.text, passages, seconds=rerank.seconds)
        if options.diverse:  # half a second for a thousand hits
            return await asyncio.to_thread(request.page_of, asked, found, scores)
        return request.page_of(asked, found, scores)


def _require_same_encoder(session: orm.Session, index: BoundIndex[Any], encoder: QueryEncoder) -> None:
    connection = session.connection(bind_arguments={"mapper": sa.inspect(index.entity, raiseerr=True).mapper})
    known = registry.encoder_of(connection, index.spec)
    if known.dimensions != encoder.dimensions or known.fingerprint not in {None, encoder.fingerprint}:
        raise _mismatch(index, known, encoder)


def _mismatch(index: BoundIndex[Any], known: KnownEncoder, encoder: QueryEncoder) -> errors.EncoderMismatch:
    return errors.EncoderMismatch(
        f"Semantic index {index.name!r} has vectors of {known.reference!r} ({known.dimensions} dimensions, "
        f"fingerprint {_short(known.fingerprint)}); the searcher has {encoder.reference!r} "
        f"({encoder.dimensions} dimensions, fingerprint {_short(encoder.fingerprint)}). "
        "Search with the same encoder."
    )


def _short(fingerprint: str | None) -> str:
    return (fingerprint or "not recorded yet")[:16]
