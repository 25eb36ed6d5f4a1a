"""One query in all modes: the hits, the time of each stage, and the SQL that ran."""

import time
from dataclasses import dataclass
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
from pg_semantic.service.pages import index_picker, search_columns, templates
from pg_semantic.service.pages.search_columns import Column
from pg_semantic.service.pages.sql_trace import Trace
from pg_semantic.service.request_limits import Name, RequestModel, Text
from pg_semantic.service.searchers import IndexSearcher, IndexSearchers

router = APIRouter()

_DEPTH = 50  # hits that a reranker scores
_NO_RERANKER = "No reranker is loaded: start the service with --reranker."
_NEEDS_WORDS = "This mode needs a search by words, which failed: see Lexical."


class SearchForm(RequestModel):
    """The form of a search."""

    index: Name
    text: Text
    limit: Annotated[int, Field(ge=1, le=50)] = 10
    match: Match = "any"


@dataclass(frozen=True, slots=True)
class _SearchKind:
    title: str
    about: str
    mode: Mode
    reranks: bool = False


_LEXICAL = _SearchKind("Lexical", "by words: BM25", "lexical")
_KINDS = (
    _SearchKind("Dense", "by meaning: cosine similarity", "dense"),
    _LEXICAL,
    _SearchKind("Hybrid", "both, fused by rank", "hybrid"),
    _SearchKind("Reranked", "the best hybrid hits, rescored by a cross-encoder", "hybrid", reranks=True),
)


@router.get("/hits")
async def hits(shared: ServiceDep, wanted: Annotated[SearchForm, Query()]) -> HTMLResponse:
    """Returns the hits of a query in all modes, side by side."""
    if not wanted.text.strip():
        raise errors.QueryError("The query is blank: enter some words.")
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
    columns: list[Column] = []
    for kind in _KINDS:
        reranker = next(iter(shared.models.rerankers), None) if kind.reranks else None
        without_words = any(one.title == _LEXICAL.title and one.problem is not None for one in columns)
        if kind.reranks and reranker is None:
            columns.append(Column(kind.title, kind.about, problem=_NO_RERANKER))
        elif kind.mode == "hybrid" and without_words:
            columns.append(Column(kind.title, kind.about, problem=_NEEDS_WORDS))
        else:
            columns.append(await _Search(indexes, known, wanted, kind, encode_ms).column_or_problem(reranker))
    return search_columns.with_places(columns)


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
    kind: _SearchKind
    encode_ms: float

    async def column_or_problem(self, reranker: BatchingReranker | None) -> Column:
        """Runs the search, or says why it is refused: for example, the index has no BM25."""
        try:
            return await self.column(reranker)
        except errors.QueryError as error:
            return Column(self.kind.title, self.kind.about, problem=str(error))

    async def column(self, reranker: BatchingReranker | None) -> Column:
        """Runs the search."""
        stages = {"encode": self.encode_ms} if self.kind.mode != "lexical" else {}
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
        key = [column.name for column in self.known.index.spec.key]
        return Column(self.kind.title, self.kind.about, search_columns.shown(found, key), stages, ran)

    async def _found(self, session: Any, *, depth: int) -> list[Hit[Any]]:  # noqa: ANN401 - hits of the index's class
        return await self.known.searcher.search(
            session,
            self.known.index,
            self.wanted.text,
            limit=max(depth, self.wanted.limit),
            mode=self.kind.mode,
            options=Options(match=self.wanted.match, snippets=True, headlines=True),
        )


def _ms_since(began: float) -> float:
    return (time.perf_counter() - began) * 1000
