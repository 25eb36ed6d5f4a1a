"""Text in, hits out: `Searcher` for a Session, `AsyncSearcher` for an AsyncSession.

Both are thin wrappers around the same requests, statements and result rows.
"""

import asyncio
import functools
import weakref
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray
from sqlalchemy import orm

from pg_semantic import database, errors
from pg_semantic.encoders import BatchingEncoder, Encoder
from pg_semantic.index.declare import BoundIndex
from pg_semantic.index.more_like_this import Examples
from pg_semantic.index.spec import EncoderSpec
from pg_semantic.search import generation_tracker, request, results
from pg_semantic.search.candidates import Where
from pg_semantic.search.generation_tracker import GenerationChanged, GenerationTracker, Target
from pg_semantic.search.request import Mode, Options, Request
from pg_semantic.search.results import Hit

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession, async_scoped_session

T = TypeVar("T")
Vector: TypeAlias = NDArray[np.float32]
Statement: TypeAlias = "sa.Select[*tuple[Any, ...]]"

_KEPT = 128  # cached statements, one per shape
_TURNS = 3  # attempts per search while the live generation keeps changing


class Searcher:
    """Searches semantic indexes by text or by examples. Thread-safe: create one per process.

    The live generation of an index can have vectors from another encoder than ``encoder``, because the index was
    switched to that encoder or has not been switched to yours yet. The searcher then loads that encoder and uses it.
    After a switch it loads the encoder in the background, and searches use the previous generation in the meantime.

    Args:
        encoder: Encodes the queries. Searchers can share an encoder: wrap it in one `BatchingEncoder` and pass that to
            each. A searcher without an encoder can only search by words (``mode="lexical"``) and by examples.
        follow: Whether to load the encoder of an index that uses another one. If False, a search of such an index
            raises `errors.EncoderMismatch`.
        load: Called to load another encoder. The default loads it by its reference.
    """

    def __init__(
        self,
        encoder: Encoder | BatchingEncoder | None = None,
        *,
        follow: bool = True,
        load: Callable[[EncoderSpec], BatchingEncoder] = generation_tracker.load,
    ) -> None:
        self.encoder = encoder if encoder is None or isinstance(encoder, BatchingEncoder) else BatchingEncoder(encoder)
        self._tracker = GenerationTracker(self.encoder, follow=follow, load=load)
        self._of_shape = functools.lru_cache(_KEPT)(request.statement)

    def search(  # noqa: PLR0913 - search options
        self,
        session: "orm.Session | orm.scoped_session[orm.Session]",
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
        """Returns the rows nearest to a query, best first; fewer than ``limit`` only if no more rows match.

        Args:
            query: A text, or ``index.similar_to(...)`` to find rows similar to examples.
            where: Conditions on the searched table, applied before the limit.
            mode: Ranks by meaning (``dense``), by words with BM25 (``lexical``) or by both (``hybrid``).
            exact: Computes every distance instead of scanning the vector index. Short results are rerun this way.
            options: All other settings.

        Raises:
            errors.QueryError: The query, or another argument, is not valid.
            errors.EncoderUnavailable: Too many queries wait for the encoder, or searches for the reranker.
            errors.EncoderMismatch: The vectors come from another encoder, which is not available.
            errors.IndexNotFound: The index has not been created.
        """
        own: orm.Session = _unscoped(session)
        if hasattr(own, "sync_session") or not hasattr(own, "get_bind"):
            raise errors.QueryError(
                f"A Searcher takes a Session, not {type(own).__name__}: for an AsyncSession, use AsyncSearcher."
            )
        wanted = Request(index, query, limit, offset, where, mode, exact, options)
        found = self._hits(own, wanted)
        scores, rerank = None, options.rerank
        if rerank and found:
            passages = [hit.passage for hit in found[: wanted.seen_by(rerank)]]
            scores = rerank.reranker.score(wanted.text, passages, seconds=rerank.seconds)
        return request.page_of(wanted, found, scores)

    def _hits(self, session: orm.Session, wanted: Request[T]) -> list[Hit[T]]:
        found, moved = list[Hit[T]](), None
        serving = self._serving(session, wanted)
        engine, encodes = generation_tracker.engine_of(session, wanted.index), wanted.needs_encoder
        for _ in range(_TURNS):
            vector = serving.encoder.encode(wanted.text) if serving.encoder else None
            statement = self._statement(wanted.of(serving.bound(wanted.index)), exact=wanted.exact)
            found, moved = self._find(session, wanted, serving, vector=vector, statement=statement)
            if moved is None:
                break
            other = self._tracker.use(engine, wanted.index, moved.live, before=moved.before, encodes=encodes)
            if other is serving:
                break
            serving = other
        _require_settled(moved)
        return found

    def _serving(self, session: orm.Session, wanted: Request[Any]) -> Target:
        engine, encodes = generation_tracker.bound_engine(session, wanted.index), wanted.needs_encoder
        serving = self._tracker.current(engine, wanted.index, encodes=encodes) if engine else None
        if serving is None:
            if encodes:
                self._own_encoder().encode(wanted.text)  # cached, so that no connection is held meanwhile
            live, _ = generation_tracker.read_live(session, wanted.index)
            engine = generation_tracker.engine_of(session, wanted.index)
            serving = self._tracker.use(engine, wanted.index, live, before=None, encodes=encodes)
        return serving

    def _own_encoder(self) -> BatchingEncoder:
        if self.encoder is None:
            raise errors.QueryError("This searcher has no encoder: create it with one, or search with mode='lexical'.")
        return self.encoder

    def _find(
        self, session: orm.Session, wanted: Request[T], serving: Target, *, vector: Vector | None, statement: Statement
    ) -> tuple[list[Hit[T]], GenerationChanged | None]:
        """Returns the hits, and the change if the queried generation is no longer the live one."""
        asked = wanted.of(serving.bound(wanted.index))
        engine, encodes = generation_tracker.engine_of(session, wanted.index), wanted.needs_encoder
        with database.translated():
            # May wait for the connection pool, so freshness is checked afterwards.
            connection = generation_tracker.connect(session, wanted.index)
            fresh = self._tracker.is_fresh(engine, wanted.index, encodes=encodes)
            moved = None if fresh else _moved(session, wanted, serving)
            if moved is not None and moved.before is None:
                return [], moved
            values = asked.values(vector, connection)
            found = _once_a_row(session.execute(statement, values))
            if asked.is_short(found):
                found = _once_a_row(session.execute(self._statement(asked, exact=True), values))
        moved = None if found and _is_as_known(found[0], serving) else _moved(session, wanted, serving)
        if moved is None:
            self._tracker.confirm(engine, wanted.index, encodes=encodes)
        elif moved.before is None:
            return [], moved
        return results.read(found), moved

    def _statement(self, asked: Request[T], *, exact: bool) -> Statement:
        shape = asked.shape(exact=exact)
        if asked.where or asked.examples:
            statement = request.statement(shape, where=asked.where, examples=asked.examples)
        else:
            statement = self._of_shape(shape)
        return statement.options(*asked.options.load) if asked.options.load else statement


def _once_a_row(result: sa.Result[*tuple[Any, ...]]) -> Sequence[sa.Row[*tuple[Any, ...]]]:
    """Returns each row once: a joined eager load of a collection repeats a row for every member."""
    return result.unique(lambda row: id(row[0])).all()


def _is_as_known(row: sa.Row[Any], serving: Target) -> bool:
    """Whether the queried generation is live and has vectors from the expected encoder."""
    live, fingerprint = (row._mapping[name] for name in ("live", "fingerprint"))  # noqa: SLF001 - public in all but name
    return bool(live == serving.generation.id) and _is_same(serving, fingerprint)


def _is_same(serving: Target, fingerprint: str | None) -> bool:
    return serving.encoder is None or fingerprint in {None, serving.encoder.fingerprint}


def _moved(session: orm.Session, wanted: Request[Any], serving: Target) -> GenerationChanged | None:
    """Asks the database whether the search should use another generation."""
    live, kept = generation_tracker.read_live(session, wanted.index)
    same = _is_same(serving, live.fingerprint)
    if live.id == serving.generation.id and same:
        return None
    return GenerationChanged(
        live, serving if serving.generation.id in kept and live.id != serving.generation.id else None
    )


def _unscoped(session: Any) -> Any:  # noqa: ANN401 - a Session or an AsyncSession, or a registry of them
    """Returns the current session of a `scoped_session` or an `async_scoped_session`."""
    return session() if hasattr(session, "session_factory") else session


def _require_settled(moved: GenerationChanged | None) -> None:
    if moved is not None and moved.before is None:
        raise errors.IndexNotFound(f"The live generation of {moved.live.qualified_name} keeps changing: try again.")


class AsyncSearcher:
    """Searches semantic indexes through an AsyncSession. Create one per process and share it between tasks.

    Works like `Searcher`. Encoding and reranking run on threads, so they don't block the event loop.

    Args:
        encoder: Encodes the queries. Searchers can share an encoder: wrap it in one `BatchingEncoder` and pass that to
            each. A searcher without an encoder can only search by words (``mode="lexical"``) and by examples.
        follow: Whether to load the encoder of an index that uses another one. If False, a search of such an index
            raises `errors.EncoderMismatch`.
        load: Called on a thread to load another encoder. The default loads it by its reference.
    """

    def __init__(
        self,
        encoder: Encoder | BatchingEncoder | None = None,
        *,
        follow: bool = True,
        load: Callable[[EncoderSpec], BatchingEncoder] = generation_tracker.load,
    ) -> None:
        self._searcher = Searcher(encoder, follow=follow, load=load)
        # The queries of a batch are ready at the same time. A lock per event loop has them build their statements one
        # by one, and lets other tasks run in between.
        self._turns: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = weakref.WeakKeyDictionary()

    async def search(  # noqa: PLR0913 - search options
        self,
        session: "AsyncSession | async_scoped_session[AsyncSession]",
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
        """Returns the rows nearest to a query, best first.

        The arguments, the result and the errors are those of `Searcher.search`; ``session`` is an AsyncSession.
        """
        own: AsyncSession = _unscoped(session)
        if not hasattr(own, "sync_session"):
            raise errors.QueryError(
                f"An AsyncSearcher takes an AsyncSession, not {type(own).__name__}: for a Session, use Searcher."
            )
        wanted = Request(index, query, limit, offset, where, mode, exact, options)
        found = await self._hits(own, wanted)
        scores, rerank = None, options.rerank
        if rerank and found:
            passages = [hit.passage for hit in found[: wanted.seen_by(rerank)]]
            scores = await rerank.reranker.score_async(wanted.text, passages, seconds=rerank.seconds)
        if options.diverse:  # takes half a second for a thousand hits
            return await asyncio.to_thread(request.page_of, wanted, found, scores)
        return request.page_of(wanted, found, scores)

    async def _hits(self, session: "AsyncSession", wanted: Request[T]) -> list[Hit[T]]:
        searcher = self._searcher
        found, moved = list[Hit[T]](), None
        serving = await self._serving(session, wanted)
        engine, encodes = generation_tracker.engine_of(session.sync_session, wanted.index), wanted.needs_encoder
        for _ in range(_TURNS):
            vector = await serving.encoder.encode_async(wanted.text) if serving.encoder else None
            statement = await self._statement(wanted.of(serving.bound(wanted.index)), exact=wanted.exact)
            found, moved = await session.run_sync(searcher._find, wanted, serving, vector=vector, statement=statement)  # noqa: SLF001 - one module
            if moved is None:
                break
            use = searcher._tracker.use  # noqa: SLF001 - one module
            other = await asyncio.to_thread(use, engine, wanted.index, moved.live, before=moved.before, encodes=encodes)
            if other is serving:
                break
            serving = other
        _require_settled(moved)
        return found

    async def _statement(self, asked: Request[Any], *, exact: bool) -> Statement:
        async with self._turns.setdefault(asyncio.get_running_loop(), asyncio.Lock()):
            statement = self._searcher._statement(asked, exact=exact)  # noqa: SLF001 - one module
            await asyncio.sleep(0)
        return statement

    async def _serving(self, session: "AsyncSession", wanted: Request[Any]) -> Target:
        searcher, known = self._searcher, self._searcher._tracker  # noqa: SLF001 - one module
        engine, encodes = generation_tracker.bound_engine(session.sync_session, wanted.index), wanted.needs_encoder
        serving = known.current(engine, wanted.index, encodes=encodes) if engine else None
        if serving is None:
            if encodes:
                await searcher._own_encoder().encode_async(wanted.text)  # noqa: SLF001 - one module
            live, _ = await session.run_sync(generation_tracker.read_live, wanted.index)
            engine = generation_tracker.engine_of(session.sync_session, wanted.index)
            serving = await asyncio.to_thread(known.use, engine, wanted.index, live, before=None, encodes=encodes)
        return serving
