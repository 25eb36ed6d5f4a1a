"""The current figures: how up to date each generation is, its failed jobs, and the rate of the workers."""

import asyncio
import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from fastapi import APIRouter
from fastapi.responses import HTMLResponse

from pg_semantic import database, jobqueue, registry
from pg_semantic.operations import status
from pg_semantic.operations.status import IndexStatus
from pg_semantic.registry import Generation
from pg_semantic.service.dependencies import ServiceContext, ServiceDep
from pg_semantic.service.pages import index_picker, templates

router = APIRouter()


@dataclass(frozen=True, slots=True)
class GenerationRow:
    """A generation and its status."""

    generation: Generation
    index: IndexStatus

    @property
    def coverage(self) -> float | None:
        """The share of rows that are synced."""
        return self.index.coverage

    @property
    def failures(self) -> Sequence[jobqueue.Failure]:
        """The newest parked jobs."""
        return self.index.failures


@dataclass(frozen=True, slots=True)
class Figures:
    """The figures at one moment."""

    at: dt.datetime
    workers: int
    rows_per_second: float
    rows: Sequence[GenerationRow]


@router.get("/figures")
async def figures(shared: ServiceDep) -> HTMLResponse:
    """Returns the current figures."""
    return await answer(shared)


async def answer(shared: ServiceContext, *, said: str | None = None) -> HTMLResponse:
    """Returns the current figures.

    Args:
        said: A message about the action that was just performed.
    """
    found = await asyncio.to_thread(_read, index_picker.database(shared).engine)
    return templates.answer("status_tables", figures=found, said=said)


def _read(engine: sa.Engine) -> Figures:
    with database.translated(), read_only(engine) as connection:
        database.require_installed(connection)
        found = status.read(connection)
        generations = {one.id: one for one in registry.generations(connection)}
    rows = [
        GenerationRow(generations[one.generation_id], one) for one in found.indexes if one.generation_id in generations
    ]
    return Figures(dt.datetime.now(dt.UTC), found.workers, found.rows_per_second, rows)


def read_only(engine: sa.Engine) -> sa.Connection:
    """Opens a connection whose transaction cannot write and reads a single snapshot."""
    options = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
    return engine.connect().execution_options(**options)
