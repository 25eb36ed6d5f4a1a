"""The service as an ASGI application, assembled from routers and middleware."""

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
    404: "The encoder or index doesn't exist.",
    413: "The request body is too large.",
    422: "A field is invalid, or a text is too long.",
    429: "The service is overloaded. Try again after `Retry-After` seconds.",
    500: "The database rejected a statement.",
    503: "The database or an encoder is unavailable.",
}


def build(context: ServiceContext) -> FastAPI:
    """Builds the application.

    Args:
        context: Shared by all requests. Its encoders and database connections are closed at shutdown.
    """
    app = FastAPI(
        title="pg_semantic",
        description="Embeddings, reranking and semantic search over the rows of a Postgres database.",
        lifespan=_lifespan,
        responses={status: {"description": meaning} for status, meaning in _REFUSALS.items()},
        redirect_slashes=False,
        docs_url=None,  # FastAPI's pages load scripts from a CDN; the package has its own
        redoc_url=None,
    )
    app.state.context = context
    key = auth.key_of(context.settings)
    # ApiKeyMiddleware checks the key; this only puts it into the OpenAPI document.
    documented = [Depends(HTTPBearer(auto_error=False))] if key else []
    app.include_router(health.router)
    for router in (health.guarded, embeddings.router, rerank.router, search.router, metrics.router):
        app.include_router(router, dependencies=documented)
    layout.mount(app)
    error_responses.register(app)
    open_paths = auth.OPEN | layout.OPEN
    # The middleware added last runs first.
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
        context.models.close()
        if context.indexes:
            await context.indexes.close()
