"""How a search proceeds: `SearchAlgorithm`, written once for `Searcher` and `AsyncSearcher`.

Each step is a generator. It yields what must be done outside (encode, execute, load, rerank) and is sent the result, so
the same code runs on threads and on an event loop. `run` and `AsyncDriver.run` are the two drivers. An error of what
was yielded ends the search: it isn't raised inside the step, so no step can catch it.
"""

import asyncio
import contextlib
import functools
import weakref
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, assert_never

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray
from sqlalchemy import orm

from pg_semantic import database, errors
from pg_semantic.encoders import BatchingEncoder, Encoder
from pg_semantic.index.spec import EncoderSpec
from pg_semantic.registry import Generation
from pg_semantic.search import generation_tracker, request, results
from pg_semantic.search.generation_tracker import GenerationChanged, GenerationTracker, Target
from pg_semantic.search.request import Request
from pg_semantic.search.rerank_and_diversify import Rerank
from pg_semantic.search.results import Hit

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession

R = TypeVar("R")
T = TypeVar("T")
Vector: TypeAlias = NDArray[np.float32]
Statement: TypeAlias = "sa.Select[*tuple[Any, ...]]"

_KEPT = 128  # cached statements, one per shape
_TURNS = 3  # attempts per search while the live generation keeps changing


@dataclass(frozen=True, slots=True)
class Encode:
    """Encode a query. Sends back its vector."""

    encoder: BatchingEncoder
    text: str


@dataclass(frozen=True, slots=True)
class Score:
    """Score passages with a reranker. Sends back the scores, or None if the time budget ran out."""

    rerank: Rerank
    text: str
    passages: Sequence[str]


@dataclass(frozen=True, slots=True)
class InSession:
    """Call something that uses the session's connection. Sends back its result."""

    call: Callable[[orm.Session], Any]


@dataclass(frozen=True, slots=True)
class Blocking:
    """Call something that can take long, such as loading an encoder. Sends back its result."""

    call: Callable[[], Any]


@dataclass(frozen=True, slots=True)
class Build:
    """Build a statement. Sends it back."""

    call: Callable[[], Statement]


Effect: TypeAlias = Encode | Score | InSession | Blocking | Build
Steps: TypeAlias = Generator[Effect, Any, R]


def run(steps: Steps[R], session: orm.Session) -> R:
    """Runs a search in the caller's thread."""
    answer: Any = None
    with contextlib.closing(steps):
        while True:
            try:
                effect = steps.send(answer)
            except StopIteration as done:
                result: R = done.value
                return result
            match effect:
                case Encode(encoder, text):
                    answer = encoder.encode(text)
                case Score(rerank, text, passages):
                    answer = rerank.reranker.score(text, passages, seconds=rerank.seconds)
                case InSession(call):
                    answer = call(session)
                case Blocking(call) | Build(call):
                    answer = call()
                case _:
                    assert_never(effect)


class AsyncDriver:
    """Runs searches on an event loop, which encoding, reranking and loading don't block."""

    def __init__(self) -> None:
        # The queries of a batch are ready at the same time. A lock per event loop has them build their statements one
        # by one, and lets other tasks run in between.
        self._turns: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = weakref.WeakKeyDictionary()

    async def run(self, steps: Steps[R], session: "AsyncSession") -> R:
        """Runs a search in the caller's task."""
        answer: Any = None
        with contextlib.closing(steps):
            while True:
                try:
                    effect = steps.send(answer)
                except StopIteration as done:
                    result: R = done.value
                    return result
                match effect:
                    case Encode(encoder, text):
                        answer = await encoder.encode_async(text)
                    case Score(rerank, text, passages):
                        answer = await rerank.reranker.score_async(text, passages, seconds=rerank.seconds)
                    case InSession(call):
                        answer = await session.run_sync(call)
                    case Blocking(call):
                        answer = await asyncio.to_thread(call)
                    case Build(call):
                        async with self._turns.setdefault(asyncio.get_running_loop(), asyncio.Lock()):
                            answer = call()
                            await asyncio.sleep(0)
                    case _:
                        assert_never(effect)


class SearchAlgorithm:
    """The steps of a search, and what one searcher knows: its encoder, generations and cached statements."""

    def __init__(
        self,
        encoder: Encoder | BatchingEncoder | None,
        *,
        follow: bool,
        load: Callable[[EncoderSpec], BatchingEncoder],
    ) -> None:
        self.encoder = encoder if encoder is None or isinstance(encoder, BatchingEncoder) else BatchingEncoder(encoder)
        self.tracker = GenerationTracker(self.encoder, follow=follow, load=load)
        self._of_shape = functools.lru_cache(_KEPT)(request.statement)

    def search(self, session: orm.Session, wanted: Request[T]) -> Steps[list[Hit[T]]]:
        """Finds hits, reranks them, and picks the page."""
        found: list[Hit[T]] = yield from self._hits(session, wanted)
        scores, rerank = None, wanted.options.rerank
        if rerank and found:
            scores = yield Score(rerank, wanted.text, [hit.passage for hit in found[: wanted.seen_by(rerank)]])
        page = functools.partial(request.page_of, wanted, found, scores)
        if not wanted.options.diverse:
            return page()
        picked: list[Hit[T]] = yield Blocking(page)  # takes half a second for a thousand hits
        return picked

    def _hits(self, session: orm.Session, wanted: Request[T]) -> Steps[list[Hit[T]]]:
        """Queries the live generation, and once more if another one turns out to be live."""
        found, moved = list[Hit[T]](), None
        target: Target = yield from self._target(session, wanted)
        for _ in range(_TURNS):
            vector = (yield Encode(target.encoder, wanted.text)) if target.encoder else None
            asked = wanted.of(target.bound(wanted.index))
            statement = yield Build(functools.partial(self._statement, asked, exact=wanted.exact))
            find = functools.partial(self._find, wanted=wanted, target=target, vector=vector, statement=statement)
            found, moved = yield InSession(find)
            if moved is None:
                break
            other: Target = yield self._use(session, wanted, moved.live, before=moved.before)
            if other is target:
                break
            target = other
        if moved is not None and moved.before is None:
            raise errors.IndexNotFound(f"The live generation of {moved.live.qualified_name} keeps changing: try again.")
        return found

    def _target(self, session: orm.Session, wanted: Request[Any]) -> Steps[Target]:
        """Finds out which generation to query."""
        engine, encodes = generation_tracker.bound_engine(session, wanted.index), wanted.needs_encoder
        if engine and (known := self.tracker.current(engine, wanted.index, encodes=encodes)):
            return known
        if encodes:
            if self.encoder is None:
                raise errors.QueryError(
                    "This searcher has no encoder: create it with one, or search with mode='lexical'."
                )
            yield Encode(self.encoder, wanted.text)  # cached, so that no connection is held meanwhile
        live, _ = yield InSession(functools.partial(generation_tracker.read_live, index=wanted.index))
        target: Target = yield self._use(session, wanted, live, before=None)
        return target

    def _use(self, session: orm.Session, wanted: Request[Any], live: Generation, *, before: Target | None) -> Blocking:
        engine, encodes = generation_tracker.engine_of(session, wanted.index), wanted.needs_encoder
        return Blocking(functools.partial(self.tracker.use, engine, wanted.index, live, before=before, encodes=encodes))

    def _find(
        self,
        session: orm.Session,
        *,
        wanted: Request[T],
        target: Target,
        vector: Vector | None,
        statement: Statement,
    ) -> tuple[list[Hit[T]], GenerationChanged | None]:
        """Returns the hits, and the change if the queried generation is no longer the live one."""
        asked = wanted.of(target.bound(wanted.index))
        engine, encodes = generation_tracker.engine_of(session, wanted.index), wanted.needs_encoder
        with database.translated():
            # May wait for the connection pool, so freshness is checked afterwards.
            connection = generation_tracker.connect(session, wanted.index)
            fresh = self.tracker.is_fresh(engine, wanted.index, encodes=encodes)
            moved = None if fresh else _moved(session, wanted, target)
            if moved is not None and moved.before is None:
                return [], moved
            values = asked.values(vector, connection)
            found = _once_a_row(session.execute(statement, values))
            if asked.is_short(found):
                found = _once_a_row(session.execute(self._statement(asked, exact=True), values))
        # A row tells which generation is live. Without one, what was read a moment ago counts too.
        confirmed = self.tracker.is_current(target, *_live_and_fingerprint(found[0])) if found else not fresh
        if moved is None and not confirmed:
            moved = _moved(session, wanted, target)
        if moved is None:
            self.tracker.confirm(engine, wanted.index, encodes=encodes)
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


def _live_and_fingerprint(row: sa.Row[Any]) -> tuple[int, str | None]:
    """Returns the id of the live generation, and the fingerprint of the encoder of the queried one."""
    return row._mapping["live"], row._mapping["fingerprint"]  # noqa: SLF001 - public in all but name


def _moved(session: orm.Session, wanted: Request[Any], target: Target) -> GenerationChanged | None:
    """Asks the database whether the search should use another generation."""
    live, kept = generation_tracker.read_live(session, wanted.index)
    if live.id == target.generation.id and target.accepts(live.fingerprint):
        return None
    return GenerationChanged(live, target if target.generation.id in kept and live.id != target.generation.id else None)
