"""The page that plots recall against latency."""

from collections.abc import Iterator

import pytest
import sqlalchemy as sa
from playwright.sync_api import expect

from pg_semantic import database
from pg_semantic.recall import curve
from pg_semantic.recall.curve import WIDTHS
from tests.conftest import copy_of
from tests.db.library import Article, Base, encoder, execute, sync
from tests.pages.visit import Visit
from tests.service import serving

_FILL = "INSERT INTO article SELECT i, md5(i::text), md5((-i)::text), 'en' FROM generate_series(1, 1500) AS i"

_POOR_GRAPH = (
    "CREATE INDEX article_semantic_vector_idx ON article_semantic USING hnsw (vector halfvec_cosine_ops) "
    "WITH (m = 3, ef_construction = 6)"
)


@pytest.fixture(scope="module")
def filled(server: sa.URL, template: str) -> Iterator[sa.Engine]:
    with copy_of(server, template) as dsn:
        made = database.connect(dsn)
        Base.metadata.create_all(made)
        execute(made, _FILL)
        sync(made)
        execute(made, "DROP INDEX article_semantic_vector_idx")
        execute(made, _POOR_GRAPH)
        yield made
        made.dispose()


def measure(visit: Visit, engine: sa.Engine) -> None:
    with serving.running(encoder(), engine=engine) as client:
        page = visit.page
        page.goto(f"{client.base_url}/recall")
        expect(page.get_by_label("Semantic index")).to_be_visible()
        page.get_by_role("button", name="Measure").click()
        expect(page.get_by_role("status")).to_have_text("Measured public.article_semantic.")


def test_a_wider_walk_of_the_vector_index_finds_more(filled: sa.Engine) -> None:
    with filled.connect() as connection:
        found = curve.recall_curve(connection, Article.semantic, sample=30)
    assert [point.ef_search for point in found.points] == list(WIDTHS)
    assert (found.queries, found.limit) == (30, 10)
    assert all(0 <= point.low <= point.recall <= point.high <= 1 for point in found.points)
    assert found.points[0].recall + 0.2 < found.points[-1].recall
    assert all(point.ms > 0 for point in found.points)


def test_every_width_is_a_point_of_the_plot_and_a_row_of_the_table(visit: Visit, filled: sa.Engine) -> None:
    measure(visit, filled)
    rows = visit.page.locator("tr.point")
    assert [rows.nth(number).get_attribute("data-ef") for number in range(rows.count())] == [str(w) for w in WIDTHS]
    visit.wait_for_points("tradeoff", len(WIDTHS))
    drawn = visit.page.evaluate("Chart.getChart('tradeoff').data.datasets[0].data.map(one => Number(one.ef))")
    assert drawn == list(WIDTHS)
    visit.picture("recall")
    visit.check_accessible()
    visit.check_fits_a_phone("recall")


def test_an_index_without_vectors_is_said_to_have_none(visit: Visit, articles: sa.Engine) -> None:
    with serving.running(encoder(), engine=articles) as client:
        page = visit.page
        page.goto(f"{client.base_url}/recall")
        expect(page.get_by_label("Semantic index")).to_be_visible()
        visit.expect_refusals(422)
        page.get_by_role("button", name="Measure").click()
        expect(page.get_by_role("alert")).to_contain_text("is not built")
