"""Text in, hits out: `Searcher` for a Session, `AsyncSearcher` for an AsyncSession."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import orm

from pg_semantic import errors
from pg_semantic.encoders import BatchingEncoder, Encoder
from pg_semantic.index.bound_index import BoundIndex
from pg_semantic.index.more_like_this import Examples
from pg_semantic.index.spec import EncoderSpec
from pg_semantic.search import algorithm, generation_tracker
from pg_semantic.search.algorithm import SearchAlgorithm
from pg_semantic.search.generation_tracker import PinnedGeneration, Target
from pg_semantic.search.legs import Where
from pg_semantic.search.request import Mode, Options, Request
from pg_semantic.search.results import Hit

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession, async_scoped_session

T = TypeVar("T")


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
        self._algorithm = SearchAlgorithm(encoder, follow=follow, load=load)

    @classmethod
    def pinned(cls, target: Target) -> "Searcher":
        """Returns a searcher of one generation, whether it is live or not, to compare generations.

        Raises:
            errors.EncoderMismatch: The encoder isn't the one that computed the generation's vectors.
        """
        searcher = cls(target.encoder)
        searcher._algorithm.tracker = PinnedGeneration(target)
        return searcher

    @property
    def encoder(self) -> BatchingEncoder | None:
        """The encoder of the queries, shared by all searches."""
        return self._algorithm.encoder

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
        return algorithm.run(self._algorithm.search(own, wanted), own)


def _unscoped(session: Any) -> Any:  # noqa: ANN401 - a Session or an AsyncSession, or a registry of them
    """Returns the current session of a `scoped_session` or an `async_scoped_session`."""
    return session() if hasattr(session, "session_factory") else session


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
        self._algorithm = SearchAlgorithm(encoder, follow=follow, load=load)
        self._driver = algorithm.AsyncDriver()

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
        return await self._driver.run(self._algorithm.search(own.sync_session, wanted), own)
