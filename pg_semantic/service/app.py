"""The service as one ASGI application, of routers and middleware; it is given what its requests share."""

import contextlib
from collections.abc import AsyncIterator

from fastapi import Depends, FastAPI
from fastapi.security import HTTPBearer

from pg_semantic.service import embeddings, guard, health, metrics, rerank, search, trouble
from pg_semantic.service.context import Context
from pg_semantic.service.guard import Guard
from pg_semantic.service.intake import Intake
from pg_semantic.service.metrics import Meter
from pg_semantic.service.page import shell

_REFUSALS = {
    401: "The key is missing or wrong.",
    404: "There is no such encoder or index.",
    413: "The body is too large.",
    422: "A field is not as it has to be, or a text is too long.",
    429: "There is too much to do: try again after the header's seconds.",
    503: "The database or an encoder can not be asked at the moment.",
}


def build(context: Context) -> FastAPI:
    """The application; closing it closes what it was given."""
    app = FastAPI(
        title="pg_semantic",
        description="Embeddings, reranking and semantic search of the rows of a Postgres database.",
        lifespan=_lifespan,
        responses={status: {"description": meaning} for status, meaning in _REFUSALS.items()},
        redirect_slashes=False,
        docs_url=None,  # these load scripts from elsewhere; the page has its own
        redoc_url=None,
    )
    app.state.context = context
    key = guard.key_of(context.settings)
    # The guard is what refuses; this has the documents say that there is a key.
    documented = [Depends(HTTPBearer(auto_error=False))] if key else []
    app.include_router(health.router)
    for router in (health.guarded, embeddings.router, rerank.router, search.router, metrics.router):
        app.include_router(router, dependencies=documented)
    shell.mount(app)
    trouble.register(app)
    open_paths = guard.OPEN | shell.OPEN
    # The last to be added is the first to be asked.
    app.add_middleware(Intake, settings=context.settings, open_paths=open_paths)
    app.add_middleware(Guard, key=key, open_paths=open_paths)
    app.add_middleware(Meter, metrics=context.metrics)
    return app


@contextlib.asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    context: Context = app.state.context
    try:
        yield
    finally:
        context.fleet.close()
        if context.indexes:
            await context.indexes.close()
