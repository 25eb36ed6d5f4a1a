"""The map of an index: points, colors, and the row that one is of."""

import sys
from collections.abc import Iterator
from typing import Any

import httpx2
import numpy as np
import pytest
import sqlalchemy as sa
from playwright.sync_api import Route, expect

from pg_semantic import database
from pg_semantic.index.spec import Lexical
from pg_semantic.search import cluster_terms
from pg_semantic.service.pages import projection
from tests.conftest import copy_of
from tests.db.library import Base, encoder, execute, sync
from tests.pages.visit import Visit
from tests.service import serving

HOSTILE = "<script>document.title = 'taken'</script>"
HEADERS = {"HX-Request": "true"}
ROWS = 40
_FILL = """
INSERT INTO article
SELECT i, CASE WHEN i % 2 = 0 THEN 'harbour candle ' ELSE 'engine violin glacier ' END || i, NULL, 'lang ' || i % 12
FROM generate_series(2, :rows) AS i
"""


@pytest.fixture(scope="module")
def filled(server: sa.URL, template: str) -> Iterator[sa.Engine]:
    with copy_of(server, template) as dsn:
        made = database.connect(dsn)
        Base.metadata.create_all(made)
        execute(made, _FILL, rows=ROWS)
        execute(made, "INSERT INTO article VALUES (1, :title, NULL, :title)", title=HOSTILE)
        sync(made)
        yield made
        made.dispose()


@pytest.fixture(scope="module")
def service(filled: sa.Engine) -> Iterator[httpx2.Client]:
    with serving.running(encoder(), engine=filled) as made:
        yield made


def draw(visit: Visit, service: httpx2.Client, color: str) -> None:
    page = visit.page
    page.goto(f"{service.base_url}/map")
    visit.wait_for_points("map", ROWS)
    with page.expect_response("**/page/map?*"):
        page.get_by_label("Color").select_option(label=color)
    expect(page.get_by_role("status")).to_contain_text(f"{ROWS} points")
    page.wait_for_function("by => Chart.getChart('map').named === by.startsWith('by cluster')", arg=color)
    visit.wait_for_points("map", ROWS)


def groups(visit: Visit) -> dict[str, int]:
    found: list[tuple[str, int]] = visit.page.evaluate(
        "Chart.getChart('map').data.datasets.map(one => [one.label, one.data.length])"
    )
    return dict(found)


def boxes(visit: Visit) -> list[dict[str, Any]]:
    """The names on the map, with their places in pixels."""
    found: list[dict[str, Any]] = visit.page.evaluate("Chart.getChart('map').names")
    return found


def test_the_map_is_drawn_when_it_is_opened_and_says_that_it_is_working(visit: Visit, service: httpx2.Client) -> None:
    page = visit.page
    held: list[Route] = []
    page.route("**/page/map?*", lambda one: held.append(one))  # noqa: PLW0108 - Playwright wraps it
    with page.expect_request("**/page/map?*"):
        page.goto(f"{service.base_url}/map")
    expect(page.get_by_role("progressbar", name="Drawing the map")).to_be_visible()
    expect(page.get_by_role("status")).to_have_text("Drawing the map …")
    held[0].continue_()
    visit.wait_for_points("map", ROWS)
    expect(page.get_by_role("progressbar", name="Drawing the map")).to_be_hidden()
    expect(page.get_by_label("Color")).to_have_value("cluster")
    page.unroute("**/page/map?*")
    page.get_by_label("Chunks").fill("7")
    page.get_by_role("button", name="Draw").click()
    visit.wait_for_points("map", 7)


def test_clusters_are_named_by_words_of_their_texts(visit: Visit, service: httpx2.Client) -> None:
    visit.page.goto(f"{service.base_url}/map")
    visit.wait_for_points("map", ROWS)
    found = groups(visit)
    assert sum(found.values()) == ROWS
    assert 2 <= len(found) <= 8
    words = [word for name in found for word in name.split(", ")]
    assert len(words) == len(set(words))
    assert {"harbour", "engine"} & set(words)
    asked = {"index": "article_semantic", "color": "cluster"}
    assert service.get("/page/map", params=asked, headers=HEADERS).text == (
        service.get("/page/map", params=asked, headers=HEADERS).text
    )
    visit.picture("map")


@pytest.mark.parametrize("width", [1280, 390])
def test_the_names_on_the_map_are_whole_and_cover_none_of_the_others(
    visit: Visit, service: httpx2.Client, width: int
) -> None:
    visit.page.set_viewport_size({"width": width, "height": 844})
    visit.page.goto(f"{service.base_url}/map")
    visit.wait_for_points("map", ROWS)
    placed, area = (
        boxes(visit),
        visit.page.evaluate(
            "(({left, right, top, bottom}) => ({left, right, top, bottom}))(Chart.getChart('map').chartArea)"
        ),
    )
    assert [box["text"] for box in sorted(placed, key=lambda box: box["number"])] == list(groups(visit))
    for number, one in enumerate(placed):
        assert area["left"] <= one["x"] <= one["x"] + one["width"] <= area["right"]
        assert area["top"] <= one["y"] <= one["y"] + one["height"] <= area["bottom"]
        for other in placed[:number]:
            beside = one["x"] >= other["x"] + other["width"] or other["x"] >= one["x"] + one["width"]
            assert beside or abs(one["y"] - other["y"]) >= one["height"]


def test_stop_words_of_the_indexs_language_name_no_cluster(articles: sa.Engine) -> None:
    with articles.connect() as connection:
        texts = ["The harbours and their candle", "In Häfen der Hafen"]
        english = cluster_terms.lexemes(connection, texts, Lexical("english"))
        assert english == {"harbours": "harbour", "candle": "candl", "häfen": "häfen", "der": "der", "hafen": "hafen"}
        german = cluster_terms.lexemes(connection, texts, Lexical("german"))
        assert (german["häfen"], german["hafen"], "der" in german, "the" in german) == ("haf", "haf", False, True)
        assert cluster_terms.lexemes(connection, texts, None)["the"] == "the"
        assert cluster_terms.lexemes(connection, [], None) == {}


def test_chunks_are_colored_by_a_column_and_rare_values_share_a_color(visit: Visit, service: httpx2.Client) -> None:
    draw(visit, service, "by column lang")
    found = groups(visit)
    assert len(found) == 9
    assert list(found)[-1] == "others"
    assert sum(found.values()) == ROWS
    draw(visit, service, "by column body")
    assert groups(visit) == {"none": ROWS}
    draw(visit, service, "one color for all")
    assert groups(visit) == {"none": ROWS}


def test_the_pointer_over_a_point_shows_its_row_as_text(visit: Visit, service: httpx2.Client) -> None:
    draw(visit, service, "by column title")
    page = visit.page
    at = page.evaluate(
        """() => {
            const chart = Chart.getChart('map');
            for (const [number, set] of chart.data.datasets.entries()) {
                const found = set.data.findIndex(one => one.key === 'id 1');
                if (found >= 0) { const { x, y } = chart.getDatasetMeta(number).data[found]; return { x, y }; }
            }
        }"""
    )
    page.locator("#map").hover(position=at)
    page.wait_for_function("Chart.getChart('map').tooltip.opacity > 0")
    shown = page.evaluate("Chart.getChart('map').tooltip.body.flatMap(one => one.lines).join(' ')")
    assert "id 1" in shown
    assert HOSTILE in shown
    page.get_by_text("The points as a table").click()
    expect(page.locator("td", has_text=HOSTILE).first).to_be_visible()
    assert page.locator("main script").count() == 0
    expect(page).to_have_title("Map - pg_semantic")


def test_of_points_upon_one_another_one_row_is_shown(visit: Visit, service: httpx2.Client) -> None:
    draw(visit, service, "one color for all")
    shown = visit.page.evaluate(
        """() => {
            const chart = Chart.getChart("map");
            chart.tooltip.setActiveElements([0, 1, 2].map(index => ({ datasetIndex: 0, index })), { x: 50, y: 50 });
            chart.update();
            return chart.tooltip.body.length;
        }"""
    )
    assert shown == 1


def test_the_page_is_accessible_and_fits_a_phone(visit: Visit, service: httpx2.Client) -> None:
    draw(visit, service, "by column lang")
    visit.page.get_by_text("The points as a table").click()
    visit.check_accessible()
    visit.check_fits_a_phone("map")


def test_no_column_but_the_tables_own_is_read(service: httpx2.Client) -> None:
    asked = {"index": "article_semantic", "color": "column:lang FROM article; --"}
    refused = service.get("/page/map", params=asked, headers=HEADERS)
    assert (refused.status_code, "no column" in refused.text) == (422, True)


def test_rows_and_columns_that_the_role_may_not_read_are_not_shown(articles: sa.Engine) -> None:
    execute(articles, "INSERT INTO article VALUES (1, 'harbour', NULL, 'shown'), (2, 'candle', NULL, 'hidden')")
    sync(articles)
    execute(articles, "ALTER TABLE article ENABLE ROW LEVEL SECURITY")
    execute(articles, "CREATE POLICY shown ON article USING (lang = 'shown')")
    execute(articles, "CREATE ROLE reader_of_maps")
    try:
        execute(articles, "GRANT SELECT (id, title, lang) ON article TO reader_of_maps")
        execute(articles, "GRANT SELECT ON article_semantic TO reader_of_maps")
        execute(articles, "GRANT USAGE ON SCHEMA semantic TO reader_of_maps")
        execute(articles, "GRANT SELECT ON ALL TABLES IN SCHEMA semantic TO reader_of_maps")
        limited = sa.create_engine(articles.url, connect_args={"options": "-c role=reader_of_maps"})
        with serving.running(encoder(), engine=limited) as client:
            asked = {"index": "article_semantic", "color": "column:lang"}
            for color in ("column:lang", "cluster"):
                seen = client.get("/page/map", params=asked | {"color": color}, headers=HEADERS).text
                assert ("harbour" in seen, "candle" in seen) == (True, False)
            columns = client.get("/page/colors", params=asked, headers=HEADERS).text
            assert ("column:lang" in columns, "column:body" in columns) == (True, False)
    finally:
        execute(articles, "DROP OWNED BY reader_of_maps")
        execute(articles, "DROP ROLE reader_of_maps")


def test_without_scikit_learn_there_are_no_clusters(service: httpx2.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn", None)
    asked = {"index": "article_semantic", "color": "cluster"}
    assert "data-clusters" not in service.get("/page/map", params=asked, headers=HEADERS).text
    shown = service.get("/page/colors", params=asked, headers=HEADERS).text
    assert ("need scikit-learn" in shown, "by cluster" in shown) == (True, False)


def test_a_plane_shows_what_lies_in_a_plane_and_takes_any_number_of_vectors() -> None:
    flat = np.zeros((50, 6), np.float32)
    flat[:, [1, 4]] = np.random.default_rng(0).normal(size=(50, 2))
    found = projection.project(flat)
    assert found.variance == pytest.approx(1)
    apart = np.linalg.norm(flat[0] - flat[1])
    assert np.linalg.norm(found.points[0] - found.points[1]) == pytest.approx(apart, rel=1e-4)
    for few in (flat[:1], flat[:2], np.ones((3, 6), np.float32)):
        assert projection.project(few).points.shape == (len(few), 2)
