"""``/health``, ``/ready`` and ``/info``: whether the process lives, whether it can answer, and what it has."""

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
guarded = APIRouter(tags=["health"])  # what needs the key, if there is one

_OF_WORKERS = ("worker_rights",)  # a service needs to read, and may have a role that can do no more


class Healthy(pydantic.BaseModel):
    """That the process answers."""

    status: Literal["ok"] = "ok"


class Readiness(pydantic.BaseModel):
    """Whether requests can be answered; ``findings`` counts what a deep look found by the name of its check."""

    status: Literal["ok", "degraded"] = "ok"
    findings: dict[str, int] | None = None


class RerankerInfo(pydantic.BaseModel):
    """A reranker that is served."""

    id: str
    score_type: str


class IndexInfo(pydantic.BaseModel):
    """A generation of a semantic index, and the encoder that made its vectors."""

    name: str
    generation: str
    encoder: str
    dimensions: int
    fingerprint: str | None


class Info(pydantic.BaseModel):
    """What a service has."""

    encoders: list[Listed]
    rerankers: list[RerankerInfo]
    indexes: list[IndexInfo]
    limits: dict[str, int]


@router.get("/health")
@router.head("/health", include_in_schema=False)  # as load balancers and monitors ask
async def health() -> Healthy:
    """Whether the process lives."""
    return Healthy()


@router.head("/ready", include_in_schema=False)
@router.get(
    "/ready", responses={503: {"model": Readiness, "description": "An error was found, or the database is gone."}}
)
async def ready(shared: ServiceDep, response: Response, *, deep: bool = False) -> Readiness:
    """Whether requests can be answered: the encoders are loaded before the first is, so it is up to the database.

    With ``deep`` the database is examined as `pg-semantic doctor` does: 503 if an error is found. Which objects are
    concerned is for that command to say, since this needs no key.
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
    """Encoders and indexes with their fingerprints, and what one request may ask for."""
    generations = await asyncio.to_thread(shared.indexes.generations) if shared.indexes else []
    return Info(
        encoders=(await listed(shared)).data,
        rerankers=[RerankerInfo(id=one.reference, score_type=one.score_type) for one in shared.fleet.rerankers],
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
