"""The service as one ASGI application, of routers and middleware; it is given what its requests share."""

import contextlib
from collections.abc import AsyncIterator

from fastapi import Depends, FastAPI
from fastapi.security import HTTPBearer

from pg_semantic.service import auth, error_responses, metrics
from pg_semantic.service.admission import AdmissionMiddleware
from pg_semantic.service.auth import ApiKeyMiddleware
from pg_semantic.service.dependencies import ServiceContext
from pg_semantic.service.metrics import Meter
from pg_semantic.service.pages import layout
from pg_semantic.service.routes import embeddings, health, rerank, search

_REFUSALS = {
    401: "The key is missing or wrong.",
    404: "There is no such encoder or index.",
    413: "The body is too large.",
    422: "A field is not as it has to be, or a text is too long.",
    429: "There is too much to do: try again after the header's seconds.",
    503: "The database or an encoder can not be asked at the moment.",
}


def build(context: ServiceContext) -> FastAPI:
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
    key = auth.key_of(context.settings)
    # The guard is what refuses; this has the documents say that there is a key.
    documented = [Depends(HTTPBearer(auto_error=False))] if key else []
    app.include_router(health.router)
    for router in (health.guarded, embeddings.router, rerank.router, search.router, metrics.router):
        app.include_router(router, dependencies=documented)
    layout.mount(app)
    error_responses.register(app)
    open_paths = auth.OPEN | layout.OPEN
    # The last to be added is the first to be asked.
    app.add_middleware(AdmissionMiddleware, settings=context.settings, open_paths=open_paths)
    app.add_middleware(ApiKeyMiddleware, key=key, open_paths=open_paths)
    app.add_middleware(Meter, metrics=context.metrics)
    return app


@contextlib.asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    context: ServiceContext = app.state.context
    try:
        yield
    finally:
        context.fleet.close()
        if context.indexes:
            await context.indexes.close()
