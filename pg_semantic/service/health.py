"""``/health``, ``/ready`` and ``/info``: whether the process lives, whether it can answer, and what it has."""

import asyncio
from typing import Any, Literal

import pydantic
import sqlalchemy as sa
from fastapi import APIRouter

from pg_semantic import database
from pg_semantic.service.context import Shared
from pg_semantic.service.embeddings import Listed, listed
from pg_semantic.service.indexes import Indexes

router = APIRouter(tags=["health"])
guarded = APIRouter(tags=["health"])  # what needs the key, if there is one


class Healthy(pydantic.BaseModel):
    """That the process answers."""

    status: Literal["ok"] = "ok"


class Reranker(pydantic.BaseModel):
    """A reranker that is served."""

    id: str
    score_type: str


class Index(pydantic.BaseModel):
    """A generation of a semantic index, and the encoder that made its vectors."""

    name: str
    generation: str
    encoder: str
    dimensions: int
    fingerprint: str | None


class Info(pydantic.BaseModel):
    """What a service has."""

    encoders: list[Listed]
    rerankers: list[Reranker]
    indexes: list[Index]
    limits: dict[str, int]


@router.get("/health")
async def health() -> Healthy:
    """Whether the process lives."""
    return Healthy()


@router.get("/ready")
async def ready(shared: Shared) -> Healthy:
    """Whether requests can be answered: the encoders are loaded before the first is, so it is up to the database."""
    if shared.indexes:
        await asyncio.to_thread(_ask, shared.indexes)
    return Healthy()


@guarded.get("/info")
async def info(shared: Shared) -> Info:
    """Encoders and indexes with their fingerprints, and what one request may ask for."""
    generations = await asyncio.to_thread(shared.indexes.generations) if shared.indexes else []
    return Info(
        encoders=(await listed(shared)).data,
        rerankers=[Reranker(id=one.reference, score_type=one.score_type) for one in shared.fleet.rerankers],
        indexes=[
            Index(
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


def _ask(indexes: Indexes) -> None:
    with database.translated(), indexes.engine.connect() as connection:
        connection.execute(sa.select(1))
