"""``POST /rerank``, as in Cohere's API (also ``/v1/rerank`` and ``/v2/rerank``)."""

import uuid
from typing import Annotated

import pydantic
from fastapi import APIRouter
from pydantic import Field

from pg_semantic.service import request_limits
from pg_semantic.service.dependencies import ServiceDep
from pg_semantic.service.request_limits import Name, RequestModel, Text

router = APIRouter(tags=["rerank"])


class Document(pydantic.BaseModel):
    """A document as an object with its text."""

    text: Text


class RerankRequest(RequestModel):
    """A query, and the documents to score by how well they answer it."""

    query: Text
    documents: list[Text | Document]
    model: Name | None = None
    top_n: Annotated[
        int | None, Field(ge=1, description="How many of the best documents to return. All by default.")
    ] = None
    return_documents: bool = False


class Result(pydantic.BaseModel):
    """A document's position in the request, and its score. ``/info`` has the reranker's score type."""

    index: int
    relevance_score: float
    document: Document | None = None


class Results(pydantic.BaseModel):
    """The documents, best first. Ties keep the order of the request."""

    id: str
    model: str
    results: list[Result]


@router.post("/rerank", response_model_exclude_none=True)
@router.post("/v1/rerank", response_model_exclude_none=True, include_in_schema=False)
@router.post("/v2/rerank", response_model_exclude_none=True, include_in_schema=False)
async def rerank(wanted: RerankRequest, shared: ServiceDep) -> Results:
    """Scores documents for a query, and returns them best first."""
    reranker = shared.models.reranker(wanted.model)
    documents = [one if isinstance(one, str) else one.text for one in wanted.documents]
    request_limits.check([wanted.query], shared.settings, noun="query")
    request_limits.check(documents, shared.settings, noun="document")
    scores = await reranker.score_async(wanted.query, documents)
    assert scores is not None  # noqa: S101 - no time budget was given
    order = sorted(range(len(documents)), key=lambda number: -float(scores[number]))[: wanted.top_n]
    results = [
        Result(
            index=number,
            relevance_score=float(scores[number]),
            document=Document(text=documents[number]) if wanted.return_documents else None,
        )
        for number in order
    ]
    return Results(id=str(uuid.uuid4()), model=reranker.reference, results=results)
