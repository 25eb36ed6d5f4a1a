"""The menu of semantic indexes."""

import asyncio

from fastapi import APIRouter
from fastapi.responses import HTMLResponse

from pg_semantic import errors
from pg_semantic.service.dependencies import ServiceContext, ServiceDep
from pg_semantic.service.pages import templates
from pg_semantic.service.searchers import IndexSearchers

router = APIRouter()


@router.get("/indexes")
async def choice(shared: ServiceDep) -> HTMLResponse:
    """Returns a menu of the live indexes."""
    known = await asyncio.to_thread(database(shared).generations)
    return templates.answer("indexes", indexes=[one for one in known if one.role == "live"])


def database(shared: ServiceContext) -> IndexSearchers:
    """Returns the service's database.

    Raises:
        errors.IndexNotFound: The service has no database.
    """
    if shared.indexes is None:
        raise errors.IndexNotFound("This service has no database: start it with --dsn.")
    return shared.indexes
