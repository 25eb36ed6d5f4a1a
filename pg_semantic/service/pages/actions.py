"""The actions of the status page: retry failed jobs, switch to another generation, roll back.

Each needs the service's key, even on this machine, because any page in a browser could send a form here.
"""

import asyncio
from collections.abc import Callable
from typing import Annotated

import sqlalchemy as sa
from fastapi import APIRouter, Depends, Form, HTTPException
from fastapi.responses import HTMLResponse

from pg_semantic import database, errors, generations, jobqueue, registry
from pg_semantic.database import transaction
from pg_semantic.service import auth
from pg_semantic.service.dependencies import ServiceContext, ServiceDep
from pg_semantic.service.pages import index_picker, status
from pg_semantic.service.request_limits import Name
from pg_semantic.settings import variable


async def _require_key(shared: ServiceDep) -> None:
    """Refuses requests if the service has no key. If it has one, `ApiKeyMiddleware` has checked it."""
    if auth.key_of(shared.settings) is None:
        raise HTTPException(
            403,
            f"This action needs a key, and the service has none: set {variable('service_api_key')} to a long random "
            "string, restart the service, and enter the key on this page.",
        )


router = APIRouter(dependencies=[Depends(_require_key)])

Index = Annotated[Name, Form()]


@router.post("/retry")
async def retry(shared: ServiceDep, index: Index, key: Annotated[str | None, Form()] = None) -> HTMLResponse:
    """Puts the failed jobs of an index, or of one row, back into the queue."""
    retried = await _done(shared, lambda engine: _retry(engine, index, key))
    return await status.answer(shared, said=f"Rows of {index} put back into the queue: {retried}.")


@router.post("/switch")
async def switch(shared: ServiceDep, index: Index) -> HTMLResponse:
    """Makes the next generation live, once all its rows are current."""
    await _done(shared, lambda engine: generations.switch(engine, index))
    return await status.answer(shared, said=f"{index} was switched: the next generation is live.")


@router.post("/rollback")
async def rollback(shared: ServiceDep, index: Index) -> HTMLResponse:
    """Makes the previous generation live again."""
    await _done(shared, lambda engine: generations.rollback(engine, index))
    return await status.answer(shared, said=f"{index} was rolled back: the previous generation is live again.")


async def _done(shared: ServiceContext, act: Callable[[sa.Engine], int | None]) -> int | None:
    engine = index_picker.database(shared).engine
    try:
        return await asyncio.to_thread(act, engine)
    except errors.GenerationError as error:
        raise HTTPException(409, str(error)) from error


def _retry(engine: sa.Engine, index: str, key: str | None) -> int:
    with database.translated(), transaction.begin(engine) as connection:
        known = registry.copies(connection, index)
        keys = None if key is None else [key]
        return len({found for one in known for found in jobqueue.retry(connection, one.id, keys)})
