"""The page that shows how the relevance of searches changes."""

import json
import uuid
from collections.abc import Iterator

import httpx2
import pytest
import sqlalchemy as sa
from playwright.sync_api import Page, expect

from tests.db.library import encoder, execute, rows, sync
from tests.pages.visit import Visit
from tests.service import serving

HOSTILE = "<img src=x onerror=alert(1)>"

_EVALUATED = """
INSERT INTO semantic.evaluation (
    index_id, generation_id, evaluated_at, judgements_hash, queries, variant, settings, measures, judged, p50_ms,
    p95_ms, measure, per_query
)
SELECT index_id, id + :dropped, CAST(:at AS timestamptz), CAST(:judgements AS bytea), 300, :variant, '{}',
       CAST(:measures AS jsonb), 0.9, 7.25, 12.5, 'nDCG@10', '{0.5}'
FROM semantic.generation
"""

_SETS = "name => Chart.getChart(name).data.datasets.map(one => [one.label, one.data.map(point => point.y)])"


def evaluated(
    engine: sa.Engine,
    variant: str,
    value: float,
    *,
    day: int,
    judgements: str = "a",
    others: dict[str, float] | None = None,
) -> None:
    """Keeps figures as `evaluation.save` does, but with a time of their own."""
    measures = {"nDCG@10": value, "RR@10": value + 0.1} | (others or {})
    execute(
        engine,
        _EVALUATED,
        at=f"2026-10-{day:02} 09:30+00",
        variant=variant,
        judgements=judgements,
        measures=json.dumps(measures),
        dropped=0 if day > 1 else 1000,
    )


@pytest.fixture
def measured(articles: sa.Engine) -> sa.Engine:
    """Three evaluations of two variants; the last one on other judgements."""
    execute(articles, "INSERT INTO article VALUES (1, 'harbour', NULL, 'en')")
    sync(articles)
    for day, now, both in ((1, 0.61, 0.66), (8, 0.62, 0.7)):
        evaluated(articles, "now", now, day=day)
        evaluated(articles, "both", both, day=day)
    evaluated(articles, "now", 0.5, day=15, judgements="b")
    return articles


@pytest.fixture
def service(measured: sa.Engine) -> Iterator[httpx2.Client]:
    with serving.running(encoder(), engine=measured) as made:
        yield made


def open_page(page: Page, service: httpx2.Client, figures: int) -> None:
    page.goto(f"{service.base_url}/quality")
    expect(page.get_by_role("status")).to_contain_text(f"public.article_semantic: {figures} figure")


def test_each_variant_and_set_of_judgements_is_a_line_in_the_chart_of_each_measure(
    visit: Visit, service: httpx2.Client
) -> None:
    open_page(visit.page, service, 5)
    visit.wait_for_points("plot-nDCG@10", 5)
    visit.wait_for_points("plot-RR@10", 5)
    assert visit.page.evaluate(_SETS, "plot-nDCG@10") == [
        ["both (judgements 1)", [0.66, 0.7]],
        ["now (judgements 1)", [0.61, 0.62]],
        ["now (judgements 2)", [0.5]],
    ]
    assert visit.page.locator("canvas").count() == 2
    expect(visit.page).to_have_title("Quality - pg_semantic")
    visit.picture("quality")
    visit.check_accessible()
    visit.check_fits_a_phone("quality")


def test_the_table_has_the_figures_newest_first(visit: Visit, service: httpx2.Client) -> None:
    open_page(visit.page, service, 5)
    found = [row.split("\t") for row in visit.page.locator("tr.figure").all_inner_texts()]
    assert [row[:4] for row in found] == [
        ["2026-10-15 09:30", "now", "0.5000", "0.6000"],
        ["2026-10-08 09:30", "both", "0.7000", "0.8000"],
        ["2026-10-08 09:30", "now", "0.6200", "0.7200"],
        ["2026-10-01 09:30", "both", "0.6600", "0.7600"],
        ["2026-10-01 09:30", "now", "0.6100", "0.7100"],
    ]
    assert found[0][4:] == ["300", "2", "90.0%", "7.25", "12.5", "live, hashed:32"]
    assert found[4][-1] == "dropped"


def test_another_measure_has_a_chart_of_its_own_and_a_dash_where_it_was_not_measured(
    visit: Visit, service: httpx2.Client, measured: sa.Engine
) -> None:
    evaluated(measured, HOSTILE, 0.4, day=16, others={"P@5": 0.3})
    open_page(visit.page, service, 6)
    visit.wait_for_points("plot-P@5", 1)
    assert visit.page.locator("canvas").count() == 3
    assert visit.page.locator("tr.figure").nth(0).inner_text().split("\t")[1:4] == [HOSTILE, "0.4000", "0.3000"]
    assert visit.page.locator("tr.figure").nth(1).inner_text().split("\t")[3] == "-"
    assert visit.page.locator("main img").count() == 0
    visit.page.get_by_role("button", name="Show").click()
    visit.wait_for_points("plot-nDCG@10", 6)
    assert visit.page.locator("canvas").count() == 3


def test_an_index_that_was_never_evaluated_is_said_to_be_with_the_command(visit: Visit, articles: sa.Engine) -> None:
    with serving.running(encoder(), engine=articles) as client:
        open_page(visit.page, client, 0)
        expect(visit.page.locator("#kept")).to_contain_text("No figures of public.article_semantic yet")
        command = "pg-semantic evaluate public.article_semantic --judgements judged.csv"
        expect(visit.page.locator("#kept code")).to_have_text(command)
        assert visit.page.locator("canvas").count() == 0
        visit.picture("quality-empty")
        visit.check_accessible()
        visit.check_fits_a_phone("quality-empty")


def test_a_role_that_can_not_read_all_rows_is_shown_no_figures(visit: Visit, measured: sa.Engine) -> None:
    role = f"server_{uuid.uuid4().hex}"
    execute(measured, f"CREATE ROLE {role} LOGIN")
    try:
        limited = sa.create_engine(measured.url, connect_args={"options": f"-c role={role}"})
        with serving.running(encoder(), engine=limited) as client:
            open_page(visit.page, client, 0)
            execute(measured, f"GRANT SELECT ON article, article_semantic, article_semantic_receipt TO {role}")
            visit.page.get_by_role("button", name="Show").click()
            expect(visit.page.get_by_role("status")).to_contain_text("5 figures")
        limited.dispose()
    finally:
        execute(measured, f"DROP OWNED BY {role}; DROP ROLE {role}")
    assert len(rows(measured, "SELECT FROM semantic.evaluation")) == 5
