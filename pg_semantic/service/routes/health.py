"""``/health``, ``/ready`` and ``/info``: whether the process is alive, whether it can answer, and what it offers."""

import asyncio
import collections
from typing import Any, Literal

import pydantic
import sqlalchemy as sa
from fastapi import APIRouter, Response

from pg_semantic import database
from pg_semantic.operations import doctor
from pg_semantic.service.dependencies import ServiceDep
from pg_semantic.service.routes.embeddings import Listed, listed
from pg_semantic.service.searchers import IndexSearchers

router = APIRouter(tags=["health"])
guarded = APIRouter(tags=["health"])  # needs the key, if the service has one

_OF_WORKERS = ("worker_privileges",)  # a service only reads, so its role may lack the privileges of a worker


class Healthy(pydantic.BaseModel):
    """The process is alive."""

    status: Literal["ok"] = "ok"


class Readiness(pydantic.BaseModel):
    """Whether the service can answer requests; with ``deep``, ``findings`` counts the findings of each check."""

    status: Literal["ok", "degraded"] = "ok"
    findings: dict[str, int] | None = None


class RerankerInfo(pydantic.BaseModel):
    """A reranker of the service."""

    id: str
    score_type: str


class IndexInfo(pydantic.BaseModel):
    """A generation of a semantic index, and the encoder of its vectors."""

    name: str
    generation: str
    encoder: str
    dimensions: int
    fingerprint: str | None


class Info(pydantic.BaseModel):
    """What the service offers."""

    encoders: list[Listed]
    rerankers: list[RerankerInfo]
    indexes: list[IndexInfo]
    limits: dict[str, int]


@router.get("/health")
@router.head("/health", include_in_schema=False)  # load balancers and monitors send HEAD
async def health() -> Healthy:
    """Reports that the process is alive."""
    return Healthy()


@router.head("/ready", include_in_schema=False)
@router.get(
    "/ready",
    responses={503: {"model": Readiness, "description": "A check found an error, or the database is unavailable."}},
)
async def ready(shared: ServiceDep, response: Response, *, deep: bool = False) -> Readiness:
    """Reports whether the service can answer requests. That depends on its database: encoders are loaded at startup.

    With ``deep``, runs the checks of `pg-semantic doctor`; the status is 503 if one finds an error. Since this needs no
    key, the response doesn't name the objects at fault: run that command to see them.
    """
    if shared.indexes is None:
        return Readiness()
    if not deep:
        await asyncio.to_thread(_ask, shared.indexes)
        return Readiness()
    async with shared.indexes.examining:
        found = await asyncio.to_thread(doctor.examine, shared.indexes.engine, ignore=_OF_WORKERS)
    if any(finding.severity == "error" for finding in found):
        response.status_code = 503
    counts = dict(collections.Counter(finding.check for finding in found))
    return Readiness(status="degraded" if found else "ok", findings=counts)


@guarded.get("/info")
async def info(shared: ServiceDep) -> Info:
    """Lists encoders and indexes with their fingerprints, rerankers, and the limits on requests."""
    generations = await asyncio.to_thread(shared.indexes.generations) if shared.indexes else []
    return Info(
        encoders=(await listed(shared)).data,
        rerankers=[RerankerInfo(id=one.reference, score_type=one.score_type) for one in shared.models.rerankers],
        indexes=[
            IndexInfo(
                name=one.qualified_name,
                generation=one.role,
                encoder=one.spec.encoder.reference,
                dimensions=one.spec.encoder.dimensions,
                fingerprint=one.fingerprint,
            )
            for one in generations
        ],
        limits=_limits(shared.settings.model_dump()),
    )


def _limits(settings: dict[str, Any]) -> dict[str, int]:
    names = ("body_bytes", "request_texts", "text_characters", "requests", "waiting_texts")
    return {name: settings[f"service_{name}"] for name in names}


def _ask(indexes: IndexSearchers) -> None:
    with database.translated(), indexes.engine.connect() as connection:
        connection.execute(sa.select(1))
