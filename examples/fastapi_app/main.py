"""A search service with FastAPI: one AsyncSession per request, one AsyncSearcher per process.

Run it from the root of the project, with an embedded database::

    pip install fastapi uvicorn 'pg-semantic-index[async,demo]'
    export PG_SEMANTIC_DSN=embedded:./data
    pg-semantic db upgrade
    python -m examples.fastapi_app.main &
    pg-semantic worker &

    curl localhost:8000/articles --json '{"title": "Password help", "body": "Ask for a reset link.", "lang": "en"}'
    curl 'localhost:8000/search?q=back+into+my+account&mode=hybrid&lang=en'

It listens only on the loopback interface. You can use any other DSN. EXAMPLE_ENCODER names another encoder.
"""

import contextlib
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Annotated, Literal, cast

import uvicorn
from fastapi import Depends, FastAPI, Query, Request, status
from fastapi.responses import JSONResponse
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine

from examples.fastapi_app.articles import ENCODER, Article, Base
from examples.fastapi_app.messages import Added, Found, NewArticle
from pg_semantic import AsyncSearcher, database, encoders, errors

BUSY_SECONDS = 1


@dataclass(frozen=True)
class Service:
    """What all requests of a process share."""

    sessions: async_sessionmaker[AsyncSession]
    searcher: AsyncSearcher


@contextlib.asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, Service]]:
    """Creates the tables, the engine and the searcher at startup."""
    setup = database.connect(os.environ.get("PG_SEMANTIC_DSN"))
    Base.metadata.create_all(setup)
    setup.dispose()
    engine = create_async_engine(setup.url)
    with encoders.BatchingEncoder(encoders.load(ENCODER)) as queries:
        yield {"service": Service(async_sessionmaker(engine), AsyncSearcher(queries))}
    await engine.dispose()


app = FastAPI(title="Help center", lifespan=lifespan)


def service(request: Request) -> Service:
    """Returns what was created at startup."""
    return cast("Service", request.state.service)


@app.get("/search")
async def search(
    q: str,
    shared: Annotated[Service, Depends(service)],
    *,
    mode: Literal["dense", "lexical", "hybrid"] = "hybrid",
    lang: str | None = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 10,
    offset: Annotated[int, Query(ge=0, le=1000)] = 0,
) -> list[Found]:
    """Returns the articles that match a query best, best first."""
    where = [Article.lang == lang] if lang else []
    async with shared.sessions() as session:
        hits = await shared.searcher.search(
            session, Article.semantic, q, mode=mode, where=where, limit=limit, offset=offset
        )
    return [
        Found(id=hit.entity.id, title=hit.entity.title, score=hit.score, scores=dict(hit.scores), passage=hit.passage)
        for hit in hits
    ]


@app.post("/articles", status_code=status.HTTP_201_CREATED)
async def add(new: NewArticle, shared: Annotated[Service, Depends(service)]) -> Added:
    """Adds an article. The worker encodes it."""
    async with shared.sessions.begin() as session:
        article = Article(**new.model_dump())
        session.add(article)
        await session.flush()
        return Added(id=article.id)


@app.exception_handler(errors.QueryError)
async def refuse(request: Request, error: errors.QueryError) -> JSONResponse:
    """Responds with what is wrong with a query."""
    return JSONResponse({"detail": str(error)}, status.HTTP_400_BAD_REQUEST)


@app.exception_handler(errors.ClosedError)
@app.exception_handler(errors.EncoderUnavailable)
async def put_off(request: Request, error: errors.PgSemanticError) -> JSONResponse:
    """Asks the client to retry later: too many queries wait for the encoder, or the process is shutting down."""
    headers = {"Retry-After": str(BUSY_SECONDS)}
    return JSONResponse({"detail": str(error)}, status.HTTP_503_SERVICE_UNAVAILABLE, headers)


if __name__ == "__main__":
    uvicorn.run(app)
