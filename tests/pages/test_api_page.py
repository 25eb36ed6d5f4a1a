"""The page that describes the API: whole from the package's own files, and what is tried out is sent with the key."""

from collections.abc import Iterator

import httpx2
import pytest
from playwright.sync_api import Request, expect

from pg_semantic.encoders.hashed import HashedEncoder
from tests.pages.visit import Visit
from tests.service import serving
from tests.service.serving import KEY


@pytest.fixture
def locked() -> Iterator[httpx2.Client]:
    with serving.running(HashedEncoder(8), service_api_key=KEY) as made:
        yield made


def test_the_api_is_described_without_a_request_to_elsewhere(visit: Visit, locked: httpx2.Client) -> None:
    asked: list[Request] = []
    visit.page.on("request", lambda one: asked.append(one))  # noqa: PLW0108 - Playwright wraps it
    visit.page.goto(f"{locked.base_url}/docs")
    for path in ("/v1/embeddings", "/rerank", "/search", "/metrics"):
        expect(visit.page.locator(f'[data-path="{path}"]')).to_be_visible()
    assert {one.url for one in asked if not one.url.startswith((str(locked.base_url), "data:"))} == set()
    visit.picture("api")


def test_what_is_tried_out_is_sent_with_the_key_of_the_tab(visit: Visit, locked: httpx2.Client) -> None:
    visit.page.goto(f"{locked.base_url}/docs")
    visit.page.evaluate("key => sessionStorage.setItem('pg_semantic.key', key)", KEY)
    visit.page.locator('[data-path="/info"]').click()
    visit.page.get_by_role("button", name="Try it out").click()
    with visit.page.expect_response("**/info") as answered:
        visit.page.get_by_role("button", name="Execute").click()
    assert answered.value.status == 200
