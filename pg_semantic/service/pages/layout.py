"""The shells of the pages, their static files, and the routers that fill them: `mount` adds all to an application."""

from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Depends, FastAPI, Header, HTTPException
from fastapi.responses import HTMLResponse
from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from pg_semantic.service import auth
from pg_semantic.service.dependencies import ServiceDep
from pg_semantic.service.pages import actions, index_picker, templates
from pg_semantic.service.pages import map as map_page
from pg_semantic.service.pages import quality as quality_page
from pg_semantic.service.pages import recall as recall_page
from pg_semantic.service.pages import search as search_page
from pg_semantic.service.pages import status as status_page

STATIC = Path(__file__).parent / "static"

router = APIRouter(include_in_schema=False)

_PAGES = ("/", "/status", "/recall", "/quality", "/map", "/docs", "/openapi.json")
_FILES = (
    "api.js",
    "chart.umd.min.js",
    "charts.js",
    "frame.css",
    "htmx.min.js",
    "icon.svg",
    "map.js",
    "page.css",
    "page.js",
    "quality.js",
    "recall.js",
    "status.js",
    "swagger-ui.min.css",
    "swagger-ui.min.js",
)

# These hold no data. A browser cannot send a key when it opens a page.
OPEN = frozenset({*_PAGES, *(f"/static/{name}" for name in _FILES)})


def mount(app: FastAPI) -> None:
    """Adds the pages to the application."""
    app.include_router(router)
    for one in (
        index_picker.router,
        search_page.router,
        status_page.router,
        actions.router,
        recall_page.router,
        quality_page.router,
        map_page.router,
    ):
        app.include_router(one, prefix="/page", include_in_schema=False, dependencies=[Depends(_asked_by_page)])
    app.mount("/static", _Files(directory=STATIC))


@router.get("/")
async def search(shared: ServiceDep) -> HTMLResponse:
    """Returns the search page."""
    return _shell("search", shared)


@router.get("/status")
async def status(shared: ServiceDep) -> HTMLResponse:
    """Returns the status page, which shows how up to date the semantic indexes are."""
    return _shell("status", shared)


@router.get("/recall")
async def recall(shared: ServiceDep) -> HTMLResponse:
    """Returns the recall page, which measures the vector indexes."""
    return _shell("recall", shared)


@router.get("/quality")
async def quality(shared: ServiceDep) -> HTMLResponse:
    """Returns the page that shows how the relevance of searches changes."""
    return _shell("quality", shared)


@router.get("/map")
async def map_view(shared: ServiceDep) -> HTMLResponse:
    """Returns the page with a map of an index."""
    return _shell("map", shared)


@router.get("/docs")
async def api() -> HTMLResponse:
    """Returns the page that describes the API, and lets people try it out."""
    return templates.answer("api", page="docs")


def _shell(name: str, shared: ServiceDep) -> HTMLResponse:
    return templates.answer(name, page=name, needs_key=auth.key_of(shared.settings) is not None)


async def _asked_by_page(hx_request: Annotated[str | None, Header()] = None) -> None:
    """Requires htmx's header: other sites can make a browser send requests here, but not with this header."""
    if hx_request is None:
        raise HTTPException(400, "This is part of a web page: open / in a browser, or use the API (/docs).")


class _Files(StaticFiles):
    """Static files that browsers cache, and revalidate on each use."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        response.headers["Cache-Control"] = "no-cache"
        response.headers["X-Content-Type-Options"] = "nosniff"
        return response
