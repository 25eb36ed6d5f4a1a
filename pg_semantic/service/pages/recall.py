"""Recall against latency of an index, measured on request."""

import asyncio
from typing import Annotated

import sqlalchemy as sa
from fastapi import APIRouter, Query
from fastapi.responses import HTMLResponse
from pydantic import Field

from pg_semantic import database, errors, registry
from pg_semantic.index import declare
from pg_semantic.recall import curve, store
from pg_semantic.recall.curve import RecallCurve
from pg_semantic.recall.store import KeptRecall
from pg_semantic.service.dependencies import ServiceDep
from pg_semantic.service.pages import index_picker, status, templates
from pg_semantic.service.request_limits import Name, RequestModel
from pg_semantic.worker import create_index_concurrently

router = APIRouter()

_PATIENCE = "60s"  # per statement


class RecallForm(RequestModel):
    """The form of a measurement: the number of queries, and of chunks for each."""

    index: Name
    sample: Annotated[int, Field(ge=1, le=200)] = 20
    limit: Annotated[int, Field(ge=1, le=15)] = 10


@router.get("/recall")
async def recall(shared: ServiceDep, wanted: Annotated[RecallForm, Query()]) -> HTMLResponse:
    """Measures recall and time at several values of ``ef_search``."""
    found, kept = await asyncio.to_thread(_measured, index_picker.database(shared).engine, wanted)
    return templates.answer("recall_curve", found=found, wanted=wanted, kept=kept)


def _measured(engine: sa.Engine, wanted: RecallForm) -> tuple[RecallCurve, KeptRecall]:
    with database.translated(), status.read_only(engine) as connection:
        live = registry.find(connection, wanted.index)
        if create_index_concurrently.state(connection, live.stored.vector_index) != "ready":
            raise errors.QueryError(f"The vector index of {wanted.index} is not built: see the status page.")
        connection.execute(sa.select(sa.func.set_config("statement_timeout", _PATIENCE, sa.true())))
        kept = store.read(connection)[live.id]
        widths = sorted({*curve.WIDTHS, kept.ef_search})
        bound = declare.bind(live.spec)
        found = curve.recall_curve(connection, bound, sample=wanted.sample, limit=wanted.limit, widths=widths)
        return found, kept
