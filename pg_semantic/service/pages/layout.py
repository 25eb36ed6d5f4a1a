"""The shells of the pages, the files that they need, and the routers that fill them: `mount`."""

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
from pg_semantic.service.pages import recall as recall_page
from pg_semantic.service.pages import search as search_page
from pg_semantic.service.pages import status as status_page

STATIC = Path(__file__).parent / "static"

router = APIRouter(include_in_schema=False)

_PAGES = ("/", "/status", "/recall", "/map", "/docs", "/openapi.json")
_FILES = (
    "api.js",
    "chart.umd.min.js",
    "charts.js",
    "htmx.min.js",
    "icon.svg",
    "map.js",
    "page.css",
    "page.js",
    "recall.js",
    "status.js",
    "swagger-ui.min.css",
    "swagger-ui.min.js",
)

# What holds no data: a browser can send no key with the address of a page.
OPEN = frozenset({*_PAGES, *(f"/static/{name}" for name in _FILES)})


def mount(app: FastAPI) -> None:
    """Has the application serve the pages."""
    app.include_router(router)
    for one in (
        index_picker.router,
        search_page.router,
        status_page.router,
        actions.router,
        recall_page.router,
        map_page.router,
    ):
        app.include_router(one, prefix="/page", include_in_schema=False, dependencies=[Depends(_asked_by_page)])
    app.mount("/static", _Files(directory=STATIC))


@router.get("/")
async def search(shared: ServiceDep) -> HTMLResponse:
    """The page to search on."""
    return _shell("search", shared)


@router.get("/status")
async def status(shared: ServiceDep) -> HTMLResponse:
    """The page that says how true the semantic indexes are."""
    return _shell("status", shared)


@router.get("/recall")
async def recall(shared: ServiceDep) -> HTMLResponse:
    """The page that says how good the vector indexes are."""
    return _shell("recall", shared)


@router.get("/map")
async def atlas_page(shared: ServiceDep) -> HTMLResponse:
    """The page with a map of an index."""
    return _shell("map", shared)


@router.get("/docs")
async def api() -> HTMLResponse:
    """The page that describes the API, where it can be tried out."""
    return templates.answer("api")


def _shell(name: str, shared: ServiceDep) -> HTMLResponse:
    return templates.answer(name, page=name, needs_key=auth.key_of(shared.settings) is not None)


async def _asked_by_page(hx_request: Annotated[str | None, Header()] = None) -> None:
    """Another site can have a browser send a request here, but not with this header."""
    if hx_request is None:
        raise HTTPException(400, "This is a part of a page: open / in a browser. Programs have the API (/docs).")


class _Files(StaticFiles):
    """Files that a browser keeps, and asks whether they are still the same."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        response.headers["Cache-Control"] = "no-cache"
        response.headers["X-Content-Type-Options"] = "nosniff"
        return response
