"""Pages of a service with a key: nothing is shown without it, and it is sent as a header alone."""

from collections.abc import Iterator

import httpx2
import pytest
import sqlalchemy as sa
from playwright.sync_api import Request, expect

from pg_semantic.service.pages import layout
from tests.db.library import encoder
from tests.pages.visit import Visit
from tests.service import serving
from tests.service.serving import KEY

PARTS = (
    "/page/indexes",
    "/page/hits?index=article_semantic&text=harbour",
    "/page/figures",
    "/page/recall?index=article_semantic",
    "/page/map?index=article_semantic",
    "/page/colors?index=article_semantic",
)


@pytest.fixture
def locked(articles: sa.Engine) -> Iterator[httpx2.Client]:
    with serving.running(encoder(), engine=articles, service_api_key=KEY) as made:
        yield made


def test_without_the_key_there_are_shells_and_no_data(locked: httpx2.Client) -> None:
    assert {locked.get(path).status_code for path in layout.OPEN} == {200}
    assert all("article" not in locked.get(path).text for path in layout.OPEN if not path.startswith("/static/"))
    for part in PARTS:
        assert locked.get(part, headers={"HX-Request": "true"}).status_code == 401
    for path in ("/static/", "/static/../app.py", "/static/SOURCES.md", "/static/%2e%2e/app.py"):
        assert locked.get(path).status_code == 401


def test_the_files_that_pages_need_are_all_served() -> None:
    documented = {"SOURCES.md"} | {path.name for path in layout.STATIC.glob("*.LICENSE")}
    there = {path.name for path in layout.STATIC.iterdir()} - documented
    assert {f"/static/{name}" for name in there} == {path for path in layout.OPEN if path.startswith("/static/")}


def test_the_page_asks_for_the_key_and_sends_it_as_a_header(visit: Visit, locked: httpx2.Client) -> None:
    page = visit.page
    visit.expect_refusals(401)
    asked: list[Request] = []
    page.on("request", lambda one: asked.append(one))  # noqa: PLW0108 - Playwright wraps it
    page.goto(str(locked.base_url))
    expect(page.get_by_role("alert")).to_contain_text("API key")
    expect(page.get_by_label("The service's key")).to_be_focused()
    visit.check_accessible()
    visit.picture("key")
    for wrong in ("wrong", "\N{GREEK SMALL LETTER KAPPA} "):
        page.get_by_label("The service's key").fill(wrong)
        with page.expect_response("**/page/indexes") as answered:
            page.keyboard.press("Enter")
        assert answered.value.status == 401
    expect(page.get_by_role("alert")).to_contain_text("API key")
    page.get_by_label("The service's key").fill(KEY)
    page.keyboard.press("Enter")
    expect(page.get_by_label("Semantic index")).to_contain_text("public.article_semantic")
    expect(page.get_by_role("alert")).to_be_empty()
    page.reload()
    expect(page.get_by_label("Semantic index")).to_contain_text("public.article_semantic")
    sent = [one.headers.get("authorization") for one in asked if "/page/" in one.url]
    assert (sent[0], sent[-1]) == (None, f"Bearer {KEY}")
    assert all(KEY not in one.url and "wrong" not in one.url for one in asked)
    assert page.evaluate("[localStorage.length, document.cookie]") == [0, ""]
    page.locator("summary", has_text="API key").click()
    page.get_by_role("button", name="Forget key").click()
    expect(page.get_by_role("alert")).to_contain_text("API key")
    assert KEY not in page.evaluate("JSON.stringify(sessionStorage)")
