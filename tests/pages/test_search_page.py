"""The page to search on."""

from collections.abc import Iterator

import httpx2
import pytest
import sqlalchemy as sa
from playwright.sync_api import expect

from pg_semantic import database
from pg_semantic.operations import create_index
from tests import cross_encoders
from tests.conftest import copy_of
from tests.db.library import Article, Base, encoder, execute, sync
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


def search(visit: Visit, address: str, text: str, *, rows: int = 5) -> None:
    page = visit.page
    page.goto(address)
    expect(page.get_by_label("Semantic index")).to_contain_text("public.article_semantic")
    page.get_by_role("spinbutton", name="Rows").fill(str(rows))
    page.get_by_label("Query").fill(text)
    page.keyboard.press("Enter")
    expect(page.get_by_role("status")).to_contain_text(f"Dense: {rows} rows")


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


def test_a_hit_is_headed_by_its_row_and_shows_its_key_smaller(visit: Visit, searched: sa.Engine, address: str) -> None:
    search(visit, address, "harbour candle")
    best = visit.page.locator("[data-way=dense]").get_by_role("listitem").first
    expect(best.locator(".headline")).to_have_text("1 harbour candle")
    expect(best.locator(".key")).to_have_text("id 1")
    expect(best.locator(".passage")).to_have_count(0)  # it would say the same
    size = "one => parseFloat(getComputedStyle(one).fontSize)"
    assert best.locator(".key").evaluate(size) < best.locator(".headline").evaluate(size)


def test_a_passage_does_not_repeat_the_headline_and_a_blank_row_is_headed_by_its_key(
    visit: Visit, articles: sa.Engine
) -> None:
    execute(articles, "INSERT INTO article VALUES (1, 'The  harbour', 'A candle burns.', 'en'), (2, NULL, 'x', 'en')")
    sync(articles)
    execute(articles, "UPDATE article SET body = ' ' WHERE id = 2")
    with serving.running(encoder(), engine=articles) as client:
        visit.page.goto(str(client.base_url))
        visit.page.get_by_label("Query").fill("candle")
        expect(visit.page.get_by_label("Semantic index")).to_contain_text("public.article_semantic")
        visit.page.keyboard.press("Enter")
        expect(visit.page.get_by_role("status")).to_have_text("Dense: 2 rows, Lexical: 1 row, Hybrid: 2 rows.")
        first, second = visit.page.locator("[data-way=dense]").get_by_role("listitem").all()
        expect(first.locator(".headline")).to_have_text("1 The harbour")
        expect(first.locator(".passage")).to_contain_text("The harbour A candle burns.")  # spaced differently
        expect(second.locator(".headline")).to_have_text("2 id 2")
        execute(articles, "UPDATE article SET title = 'The harbour' WHERE id = 1")
        sync(articles)
        visit.page.get_by_role("button", name="Search").click()
        expect(first.locator(".passage")).to_have_text("A candle burns.")
        expect(first.locator("mark")).to_have_text(["candle"])


def test_each_hit_has_its_rank_in_the_other_modes(visit: Visit, address: str) -> None:
    search(visit, address, "glacier", rows=2)  # which one row has
    shown: dict[str, list[str]] = {}
    ranks: dict[tuple[str, str], int] = {}
    for way in WAYS:
        hits = visit.page.locator(f"[data-way={way}]").get_by_role("listitem")
        shown[way] = hits.locator(".key").all_inner_texts()
        ranks |= {(way, key): rank for rank, key in enumerate(shown[way], start=1)}
    assert len({tuple(keys) for keys in shown.values()}) > 1
    absent, absence = 0, "\N{EN DASH}not in the first 2"
    for way in WAYS:
        for number, key in enumerate(shown[way]):
            hit = visit.page.locator(f"[data-way={way}]").get_by_role("listitem").nth(number)
            told = " ".join((hit.locator(".places").text_content() or "").split())
            others = [(other, ranks.get((other, key))) for other in WAYS if other != way]
            absent += sum(rank is None for _, rank in others)
            assert told == " · ".join(f"{other} {rank or absence}" for other, rank in others)
    assert absent


def test_without_bm25_there_are_the_dense_hits_and_the_reason_for_the_rest(visit: Visit, engine: sa.Engine) -> None:
    execute(engine, "CREATE TABLE note (id integer PRIMARY KEY, words text)")
    execute(engine, "INSERT INTO note VALUES (1, 'harbour candle')")
    with engine.connect() as connection:
        spec = create_index.describe(
            connection, "note", columns=("words",), encoder=Article.semantic.spec.encoder, lexical=None
        )
    create_index.create(engine, spec)
    sync(engine)
    with serving.running(encoder(), engine=engine) as client:
        page = visit.page
        page.goto(str(client.base_url))
        expect(page.get_by_label("Semantic index")).to_contain_text("public.note_semantic")
        page.get_by_label("Query").fill("harbour")
        page.keyboard.press("Enter")
        expect(page.locator("[data-way=dense]").get_by_role("listitem")).to_have_count(1)
        expect(page.get_by_role("status")).to_have_text("Dense: 1 row.")
        expect(page.locator("[data-way=lexical]")).to_contain_text("has no BM25")
        expect(page.locator("[data-way=hybrid]")).to_contain_text("see Lexical")
        expect(page.locator("[data-way=reranked]")).to_contain_text("--reranker")


def test_an_empty_database_says_how_to_create_an_index(visit: Visit, engine: sa.Engine) -> None:
    with serving.running(encoder(), engine=engine) as client:
        for path, button in (("", "Search"), ("/map", "Draw"), ("/recall", "Measure")):
            visit.page.goto(f"{client.base_url}{path}")
            expect(visit.page.get_by_label("Semantic index")).to_contain_text("pg-semantic index create")
            visit.page.get_by_role("button", name=button).click()
            expect(visit.page.get_by_role("alert")).to_be_empty()


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
        expect(column.locator(".headline", has_text="<script>")).to_be_visible()
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
    expect(page.get_by_role("alert")).to_have_text("The query is blank: enter some words.")


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
