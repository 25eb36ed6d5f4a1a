"""How the relevance of searches changes: the figures that evaluations keep in the database."""

import asyncio
from typing import Annotated

import sqlalchemy as sa
from fastapi import APIRouter, Query
from fastapi.responses import HTMLResponse

from pg_semantic import database, registry
from pg_semantic.evaluation import history
from pg_semantic.evaluation.history import KeptFigures
from pg_semantic.service.dependencies import ServiceDep
from pg_semantic.service.pages import index_picker, status, templates
from pg_semantic.service.request_limits import Name, RequestModel

router = APIRouter()

MOST = 200


class QualityForm(RequestModel):
    """The index whose figures are shown."""

    index: Name


@router.get("/quality")
async def quality(shared: ServiceDep, wanted: Annotated[QualityForm, Query()]) -> HTMLResponse:
    """Returns the newest figures of an index."""
    found = await asyncio.to_thread(_read, index_picker.database(shared).engine, wanted.index)
    measures = sorted({name for one in found for name in one.measures}, key=str.lower)
    sets = max((one.judgements for one in found), default=0)
    values = {"measures": measures, "sets": sets, "is_cut": len(found) == MOST}
    return templates.answer("quality_figures", index=wanted.index, figures=found, **values)


def _read(engine: sa.Engine, name: str) -> list[KeptFigures]:
    with database.translated(), status.read_only(engine) as connection:
        return history.newest(connection, registry.find(connection, name).id, most=MOST)
