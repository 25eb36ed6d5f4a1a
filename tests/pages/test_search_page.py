"""The page to search on."""

from collections.abc import Iterator

import httpx2
import pytest
import sqlalchemy as sa
from playwright.sync_api import expect

from pg_semantic import database
from tests import cross_encoders
from tests.conftest import copy_of
from tests.db.library import Base, encoder, execute, sync
from tests.pages.visit import Visit
from tests.service import serving

HOSTILE = "<script>document.title = 'harbour taken'</script> harbour <img src=x onerror=alert(1)> & \"quotes\""
ROWS = ["harbour candle", "harbour meadow", "engine violin", "glacier pepper", HOSTILE]
WAYS = ("dense", "lexical", "hybrid", "reranked")


@pytest.fixture(scope="module")
def searched(server: sa.URL, template: str) -> Iterator[sa.Engine]:
    with copy_of(server, template) as dsn:
        made = database.connect(dsn)
        Base.metadata.create_all(made)
        for number, title in enumerate(ROWS, start=1):
            execute(made, "INSERT INTO article VALUES (:id, :title, NULL, 'en')", id=number, title=title)
        sync(made)
        yield made
        made.dispose()


@pytest.fixture(scope="module")
def service(searched: sa.Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx2.Client]:
    reranker = cross_encoders.save(tmp_path_factory.mktemp("reranker"))
    with serving.running(encoder(), engine=searched, rerankers=(str(reranker),)) as made:
        yield made


@pytest.fixture(scope="module")
def address(service: httpx2.Client) -> str:
    return str(service.base_url)


def search(visit: Visit, address: str, text: str) -> None:
    page = visit.page
    page.goto(address)
    expect(page.get_by_label("Semantic index")).to_contain_text("public.article_semantic")
    page.get_by_label("Query").fill(text)
    page.keyboard.press("Enter")
    expect(page.get_by_role("status")).to_contain_text("Dense: 5 rows")


def test_a_query_is_answered_in_four_ways_side_by_side(visit: Visit, address: str) -> None:
    search(visit, address, "harbour candle")
    places = []
    for way in WAYS:
        column = visit.page.locator(f"[data-way={way}]")
        best = column.get_by_role("listitem").first
        expect(best.get_by_role("meter")).to_have_attribute("value", "1.0000")
        expect(column.get_by_label("Time of each stage")).to_contain_text("SQL")
        box = column.bounding_box()
        assert box
        places.append((box["x"], box["y"]))
    assert [y for _, y in places] == [places[0][1]] * len(WAYS)
    assert len({x for x, _ in places}) == len(WAYS)
    lexical = visit.page.locator("[data-way=lexical]")
    expect(lexical.get_by_role("listitem").first.locator("mark")).to_have_text(["harbour", "candle"])
    expect(lexical.get_by_label("Time of each stage")).not_to_contain_text("encode")
    expect(visit.page.locator("[data-way=reranked]").get_by_label("Time of each stage")).to_contain_text("rerank")
    visit.picture("search")


def test_the_sql_that_ran_is_shown_without_the_numbers_of_the_vector(visit: Visit, address: str) -> None:
    search(visit, address, "harbour")
    column = visit.page.locator("[data-way=dense]")
    column.get_by_text("The SQL that ran").click()
    expect(column.locator("pre").last).to_contain_text("<=>")
    expect(column.locator(".values").last).to_contain_text("[32 numbers]")


def test_text_of_rows_is_shown_and_never_run(visit: Visit, address: str) -> None:
    search(visit, address, "harbour quotes")
    for way in WAYS:
        column = visit.page.locator(f"[data-way={way}]")
        column.get_by_text("Whole passage of id 5").click()
        expect(column.locator(".whole", has_text=HOSTILE)).to_be_visible()
        expect(column.locator(".passage", has_text="<script>")).to_be_visible()
        assert column.locator("script, img").count() == 0
    expect(visit.page).to_have_title("Search - pg_semantic")


def test_what_was_asked_is_shown_and_never_run(visit: Visit, address: str) -> None:
    search(visit, address, HOSTILE)
    assert visit.page.locator("main script, main img").count() == 0
    expect(visit.page).to_have_title("Search - pg_semantic")


def test_an_error_is_said(visit: Visit, address: str) -> None:
    page = visit.page
    page.goto(address)
    expect(page.get_by_label("Semantic index")).to_be_visible()
    visit.expect_refusals(422)
    page.get_by_label("Query").fill("   ")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_have_text("Enter a search query.")


def test_the_page_is_accessible(visit: Visit, address: str) -> None:
    page = visit.page
    page.goto(address)
    visit.check_accessible()
    search(visit, address, "harbour candle")
    for summary in page.locator("summary").all():
        summary.click()
    visit.check_accessible()


def test_the_page_fits_a_phone(visit: Visit, address: str) -> None:
    search(visit, address, HOSTILE)
    visit.check_fits_a_phone("search")
    for summary in visit.page.locator("summary").all():
        summary.click()
    visit.check_fits_a_phone("search-opened")


def test_the_content_can_be_reached_by_keyboard_alone(visit: Visit, address: str) -> None:
    page = visit.page
    page.goto(address)
    expect(page.get_by_label("Semantic index")).to_be_visible()
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()
    page.keyboard.press("Tab")
    expect(page.get_by_label("Query")).to_be_focused()


def test_foreign_script_and_frames_are_forbidden(service: httpx2.Client) -> None:
    policy = service.get("/").headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy


def test_parts_of_pages_answer_pages_alone(service: httpx2.Client) -> None:
    assert service.get("/page/indexes").status_code == 400
    assert service.get("/page/indexes", headers={"HX-Request": "true"}).status_code == 200


def test_a_service_without_reranker_and_one_without_database_say_so(visit: Visit, searched: sa.Engine) -> None:
    with serving.running(encoder(), engine=searched) as client:
        search(visit, str(client.base_url), "harbour")
        expect(visit.page.locator("[data-way=reranked]")).to_contain_text("--reranker")
    with serving.running(encoder()) as client:
        visit.expect_refusals(404)
        visit.page.goto(str(client.base_url))
        expect(visit.page.get_by_role("alert")).to_contain_text("--dsn")
