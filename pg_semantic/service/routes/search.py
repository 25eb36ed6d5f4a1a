"""``POST /search``: rows of a semantic index, by meaning, by words, or both."""

import json
from collections.abc import Sequence
from typing import Annotated, Any, TypeAlias

import pydantic
import sqlalchemy as sa
from fastapi import APIRouter
from pydantic import Field, StrictInt
from sqlalchemy import exc

from pg_semantic import database, errors
from pg_semantic.index import keys
from pg_semantic.index.bm25_expressions import Match
from pg_semantic.index.bound_index import BoundIndex
from pg_semantic.search import Hit, Options, Rerank
from pg_semantic.search.request import Mode
from pg_semantic.service import request_limits
from pg_semantic.service.dependencies import ServiceContext, ServiceDep
from pg_semantic.service.request_limits import FieldError, Name, RequestModel, Text
from pg_semantic.service.searchers import IndexSearchers

router = APIRouter(tags=["search"])

_MOST = 1000
_DEEPEST = 10_000

Part: TypeAlias = StrictInt | Text
Key: TypeAlias = Part | list[Part] | dict[Name, Part]


_NOT_A_KEY = "A key doesn't fit the type of the table's key columns."
_KEYS = (
    "Find only rows with these keys. Write a key as in a hit, as its bare value, or as a list of values in key order."
)
_HEADLINE = "The beginning of the row's first text column that isn't blank, up to 120 characters on one line."


class SearchRequest(RequestModel):
    """A search of a semantic index."""

    index: Annotated[Name, Field(description="The index's name, qualified by its schema if it is ambiguous.")]
    text: Annotated[Text, Field(description="The query.")]
    mode: Annotated[Mode, Field(description="Rank by meaning, by words (BM25), or both.")] = "dense"
    limit: Annotated[int, Field(ge=1, le=_MOST)] = 10
    offset: Annotated[int, Field(ge=0, le=_DEEPEST)] = 0
    match: Annotated[Match, Field(description="Match any word, all words, a phrase, or web search syntax.")] = "any"
    keys: Annotated[list[Key] | None, Field(max_length=_MOST, description=_KEYS)] = None
    rerank: Annotated[bool, Field(description="Rerank the best hits.")] = False
    reranker: Annotated[Name | None, Field(description="The reranker to use. The first one by default.")] = None
    depth: Annotated[int, Field(ge=1, le=_MOST, description="How many hits to rerank.")] = 50
    exact: Annotated[bool, Field(description="Compute every distance, without the vector index.")] = False


class SearchHit(pydantic.BaseModel):
    """A hit: the row's key and headline, its score, the score of each stage, and its best passage."""

    key: dict[str, int | str]
    headline: Annotated[str | None, Field(description=_HEADLINE)]
    score: float
    scores: dict[str, float]
    passage: str
    ordinal: int


class SearchResponse(pydantic.BaseModel):
    """The hits, best first."""

    index: str
    hits: list[SearchHit]


@router.post("/search")
async def search(wanted: SearchRequest, shared: ServiceDep) -> SearchResponse:
    """Returns the rows of a semantic index that best match a query."""
    request_limits.check([wanted.text], shared.settings, noun="query")
    if shared.indexes is None:
        raise errors.IndexNotFound("This service has no database: start it with --dsn.")
    try:
        found = await _search(wanted, shared, shared.indexes)
    except errors.IndexNotFound:
        shared.indexes.forget(wanted.index)
        found = await _search(wanted, shared, shared.indexes)
    return SearchResponse(index=wanted.index, hits=found)


async def _search(wanted: SearchRequest, shared: ServiceContext, indexes: IndexSearchers) -> list[SearchHit]:
    known = await indexes.get(wanted.index)
    await indexes.require_same(known)
    rerank = Rerank(shared.models.reranker(wanted.reranker), depth=wanted.depth) if wanted.rerank else None
    try:
        with database.translated():
            async with indexes.session() as session:
                hits = await known.searcher.search(
                    session,
                    known.index,
                    wanted.text,
                    limit=wanted.limit,
                    offset=wanted.offset,
                    mode=wanted.mode,
                    exact=wanted.exact,
                    where=[] if wanted.keys is None else [_has_key(known.index, wanted.keys)],
                    options=Options(match=wanted.match, rerank=rerank, headlines=True),
                )
    except errors.DatabaseError as error:
        if wanted.keys and _is_a_value(error.__cause__) and not await _fit(wanted.keys, known.index, indexes):
            raise FieldError(_NOT_A_KEY, param="keys") from error
        raise
    names = [column.name for column in known.index.spec.key]
    return [_found(hit, names) for hit in hits]


def _is_a_value(error: BaseException | None) -> bool:
    """Whether a value was at fault: a key of the request, but maybe one in a policy or a function of the table."""
    return isinstance(error, exc.DBAPIError) and database.fault(error) == "row"


async def _fit(wanted: Sequence[Key], index: BoundIndex[Any], indexes: IndexSearchers) -> bool:
    """Whether all keys fit the types of the key columns. Reads no table."""
    values = keys.typed_columns(_key_table(index, wanted), index.tables.source_key)
    try:
        async with indexes.session() as session:
            await session.execute(sa.select(*(sa.func.count(value) for value in values)))
    except exc.DBAPIError as error:
        return not _is_a_value(error)
    return True


def _has_key(index: BoundIndex[Any], wanted: Sequence[Key]) -> sa.ColumnElement[bool]:
    columns = index.tables.source_key
    if not wanted:
        return sa.false()
    return sa.exists().where(keys.matches_key_table(_key_table(index, wanted), columns))


def _key_table(index: BoundIndex[Any], wanted: Sequence[Key]) -> sa.TableValuedAlias:
    names = [column.name for column in index.spec.key]
    return keys.key_table([_key_text(key, names) for key in wanted], len(names))


def _key_text(key: Key, names: Sequence[str]) -> str:
    if isinstance(key, dict):
        if key.keys() != set(names):
            raise errors.QueryError(
                f"A key of this index has the columns {', '.join(names)}, not {', '.join(key) or 'none'}."
            )
        key = [key[name] for name in names]
    parts = [str(part) for part in (key if isinstance(key, list) else [key])]
    if len(parts) != len(names):
        raise errors.QueryError(f"A key of this index has {len(names)} values, not {len(parts)}.")
    return parts[0] if len(names) == 1 else json.dumps(parts)


def _found(hit: Hit[Any], names: Sequence[str]) -> SearchHit:
    return SearchHit(
        key={name: getattr(hit.entity, name) for name in names},  # integers and strings: see `chunk_tables.KeyType`
        headline=hit.headline,
        score=hit.score,
        scores=dict(hit.scores),
        passage=hit.passage,
        ordinal=hit.ordinal,
    )
