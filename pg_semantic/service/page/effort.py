"""Recall against latency of an index, measured when a person asks for it."""

import asyncio
from typing import Annotated

import sqlalchemy as sa
from fastapi import APIRouter, Query
from fastapi.responses import HTMLResponse
from pydantic import Field

from pg_semantic import database, declare, errors, registry
from pg_semantic.search import tradeoff
from pg_semantic.search.tradeoff import Tradeoff
from pg_semantic.service.context import Shared
from pg_semantic.service.limits import Asked, Name
from pg_semantic.service.page import choice, figures, templates
from pg_semantic.sync import indexes

router = APIRouter()

_PATIENCE = "60s"  # for one statement


class Wanted(Asked):
    """What is to be measured, as the form has it."""

    index: Name
    sample: Annotated[int, Field(ge=1, le=200)] = 20
    limit: Annotated[int, Field(ge=1, le=15)] = 10


@router.get("/recall")
async def recall(shared: Shared, wanted: Annotated[Wanted, Query()]) -> HTMLResponse:
    """Recall and time at several widths of the walk."""
    found = await asyncio.to_thread(_measured, choice.database(shared).engine, wanted)
    return templates.answer("effort", found=found, wanted=wanted)


def _measured(engine: sa.Engine, wanted: Wanted) -> Tradeoff:
    with database.translated(), figures.read_only(engine) as connection:
        live = registry.find(connection, wanted.index)
        if indexes.state(connection, live.stored.vector_index) != "ready":
            raise errors.QueryError(f"The vector index of {wanted.index} is not built: see Status.")
        connection.execute(sa.select(sa.func.set_config("statement_timeout", _PATIENCE, sa.true())))
        return tradeoff.tradeoff(connection, declare.bind(live.spec), sample=wanted.sample, limit=wanted.limit)
