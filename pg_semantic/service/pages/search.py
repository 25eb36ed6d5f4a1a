"""One query in all modes: the hits, the time of each stage, and the SQL that ran."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi.responses import HTMLResponse
from pydantic import Field

from pg_semantic import database, errors
from pg_semantic.index.bm25_expressions import Match
from pg_semantic.rerankers import BatchingReranker
from pg_semantic.search import Hit, Options, rerank_and_diversify
from pg_semantic.search.request import Mode
from pg_semantic.service import request_limits
from pg_semantic.service.dependencies import ServiceContext, ServiceDep
from pg_semantic.service.pages import index_picker, templates
from pg_semantic.service.pages.sql_trace import Ran, Trace
from pg_semantic.service.request_limits import Name, RequestModel, Text
from pg_semantic.service.searchers import IndexSearcher, IndexSearchers

router = APIRouter()

_DEPTH = 50  # hits that a reranker scores
_NO_RERANKER = "No reranker is loaded: start the service with --reranker."


class SearchForm(RequestModel):
    """The form of a search."""

    index: Name
    text: Text
    limit: Annotated[int, Field(ge=1, le=50)] = 10
    match: Match = "any"


@dataclass(frozen=True, slots=True)
class Shown:
    """A hit as shown; ``share`` is its score on the scale of its column, 0 to 1."""

    key: str
    hit: Hit[Any]
    share: float


@dataclass(frozen=True, slots=True)
class Column:
    """The results of one mode of searching; times are in milliseconds."""

    title: str
    about: str
    hits: Sequence[Shown] = ()
    stages: dict[str, float] = field(default_factory=dict)
    ran: Sequence[Ran] = ()
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class _SearchWay:
    title: str
    about: str
    mode: Mode
    reranks: bool = False


_WAYS = (
    _SearchWay("Dense", "by meaning: cosine similarity", "dense"),
    _SearchWay("Lexical", "by words: BM25", "lexical"),
    _SearchWay("Hybrid", "both, fused by rank", "hybrid"),
    _SearchWay("Reranked", "the best hybrid hits, rescored by a cross-encoder", "hybrid", reranks=True),
)


@router.get("/hits")
async def hits(shared: ServiceDep, wanted: Annotated[SearchForm, Query()]) -> HTMLResponse:
    """Returns the hits of a query in all modes, side by side."""
    if not wanted.text.strip():
        raise errors.QueryError("Enter a search query.")
    request_limits.check([wanted.text], shared.settings)
    indexes = index_picker.database(shared)
    try:
        columns = await _columns(shared, indexes, wanted)
    except errors.IndexNotFound:
        indexes.forget(wanted.index)
        columns = await _columns(shared, indexes, wanted)
    return templates.answer("hits", columns=columns, wanted=wanted)


async def _columns(shared: ServiceContext, indexes: IndexSearchers, wanted: SearchForm) -> list[Column]:
    """Runs one mode after the other, so that they don't slow each other down."""
    known = await indexes.get(wanted.index)
    await indexes.require_same(known)
    encode_ms = await _encoded(shared, known, wanted.text)
    columns = []
    for way in _WAYS:
        reranker = next(iter(shared.models.rerankers), None) if way.reranks else None
        if way.reranks and reranker is None:
            columns.append(Column(way.title, way.about, problem=_NO_RERANKER))
            continue
        try:
            columns.append(await _Search(indexes, known, wanted, way, encode_ms).column(reranker))
        except errors.QueryError as error:  # for example, the index has no BM25
            columns.append(Column(way.title, way.about, problem=str(error)))
    return columns


async def _encoded(shared: ServiceContext, known: IndexSearcher, text: str) -> float:
    """Encodes the query, whose vector is then cached for all modes, and returns the milliseconds it took."""
    began = time.perf_counter()
    await shared.models.of(known.index.spec.encoder).encode_async(text)
    return _ms_since(began)


@dataclass(frozen=True, slots=True)
class _Search:
    """A query in one mode."""

    indexes: IndexSearchers
    known: IndexSearcher
    wanted: SearchForm
    way: _SearchWay
    encode_ms: float

    async def column(self, reranker: BatchingReranker | None) -> Column:
        """Runs the search."""
        stages = {"encode": self.encode_ms} if self.way.mode != "lexical" else {}
        trace = Trace()
        with database.translated():
            async with self.indexes.session() as session:
                trace.listen(session.sync_session)
                found = await self._found(session, depth=_DEPTH if reranker else self.wanted.limit)
                ran = trace.ran(session.get_bind().dialect)
        stages["SQL"] = trace.ms
        if reranker:
            began = time.perf_counter()
            scores = await reranker.score_async(self.wanted.text, [hit.passage for hit in found])
            found = rerank_and_diversify.rescored(found, scores)[: self.wanted.limit]
            stages["rerank"] = _ms_since(began)
        stages["total"] = sum(stages.values())
        return Column(self.way.title, self.way.about, self._shown(found), stages, ran)

    async def _found(self, session: Any, *, depth: int) -> list[Hit[Any]]:  # noqa: ANN401 - hits of the index's class
        return await self.known.searcher.search(
            session,
            self.known.index,
            self.wanted.text,
            limit=max(depth, self.wanted.limit),
            mode=self.way.mode,
            options=Options(match=self.wanted.match, snippets=True),
        )

    def _shown(self, found: Sequence[Hit[Any]]) -> list[Shown]:
        names = [column.name for column in self.known.index.spec.key]
        keys = [", ".join(f"{name} {getattr(hit.entity, name)}" for name in names) for hit in found]
        shares = _shares([hit.score for hit in found])
        return [Shown(*one) for one in zip(keys, found, shares, strict=True)]


def _shares(scores: Sequence[float]) -> list[float]:
    """Scales scores to 0..1, where 0 stands for a score of 0, or for the lowest if it is negative."""
    low, high = min(0.0, *scores, 0.0), max(0.0, *scores, 0.0)
    return [(score - low) / (high - low) if high > low else 0.0 for score in scores]


def _ms_since(began: float) -> float:
    return (time.perf_counter() - began) * 1000
