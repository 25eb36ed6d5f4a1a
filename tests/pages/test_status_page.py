"""The page of figures: what is shown, what refreshes itself, and what a person with the key can do."""

import dataclasses
from collections.abc import Iterator, Sequence

import httpx2
import pytest
import sqlalchemy as sa
from playwright.sync_api import Dialog, expect

from pg_semantic import generations
from pg_semantic.encoders import Vectors
from pg_semantic.encoders.hashed import HashedEncoder
from pg_semantic.index.spec import EncoderSpec
from pg_semantic.settings import variable
from tests.db.library import encoder, execute, generation_of, jobs, rows, sync
from tests.pages.visit import Visit
from tests.service import serving
from tests.service.serving import KEY

INDEX = "public.article_semantic"
HOSTILE = "<script>document.title = 'taken'</script><img src=x onerror=alert(1)>"


class Fragile(HashedEncoder):
    """Fails on a text, in words that are script."""

    def encode_documents(self, texts: Sequence[str]) -> Vectors:
        if any("poison" in text for text in texts):
            raise RuntimeError(HOSTILE)
        return super().encode_documents(texts)


@pytest.fixture
def failing(articles: sa.Engine) -> sa.Engine:
    """Four synced rows, and two that failed."""
    execute(articles, "INSERT INTO article SELECT i, 'harbour ' || i, NULL, 'en' FROM generate_series(1, 4) AS i")
    execute(articles, "INSERT INTO article SELECT i, 'poison ' || i, NULL, 'en' FROM generate_series(5, 6) AS i")
    sync(articles, lambda *_, **__: Fragile(32), max_attempts=1)
    return articles


@pytest.fixture
def service(failing: sa.Engine) -> Iterator[httpx2.Client]:
    with serving.running(encoder(), engine=failing, service_api_key=KEY) as made:
        yield made


def enter(visit: Visit, service: httpx2.Client) -> None:
    """Opens the page with the key."""
    visit.expect_refusals(401)
    visit.page.goto(f"{service.base_url}/status")
    visit.page.get_by_label("The service's key").fill(KEY)
    visit.page.keyboard.press("Enter")
    expect(visit.page.get_by_role("heading", name="Semantic indexes")).to_be_visible()


def begin(engine: sa.Engine) -> None:
    live = generation_of(engine)
    generations.begin(engine, live, dataclasses.replace(live.spec, encoder=EncoderSpec("hashed:48", 48)))


def mend(engine: sa.Engine) -> None:
    execute(engine, "UPDATE article SET title = replace(title, 'poison', 'lantern')")
    sync(engine)


def roles(engine: sa.Engine) -> set[tuple[str, ...]]:
    return set(rows(engine, "SELECT role, spec #>> '{encoder,reference}' FROM semantic.generation"))


def answer_dialogs(visit: Visit) -> list[str]:
    """Says yes to what the page asks; what that was."""
    asked: list[str] = []

    def accept(dialog: Dialog) -> None:
        asked.append(dialog.message)
        dialog.accept()

    visit.page.on("dialog", accept)
    return asked


def points(visit: Visit, name: str, count: int) -> list[float]:
    visit.wait_for_points(name, count)
    found: list[float] = visit.page.evaluate(
        "name => Chart.getChart(name).data.datasets.flatMap(one => one.data.map(point => point.y))", name
    )
    return found


def test_figures_and_failures_are_shown(visit: Visit, service: httpx2.Client) -> None:
    enter(visit, service)
    page = visit.page
    row = page.locator("tr.figure")
    for words in (INDEX, "live", "hashed:32", "66.7%", "ready"):
        expect(row).to_contain_text(words)
    expect(row.get_by_role("progressbar")).to_have_attribute("value", "0.6666666666666666")
    failed = page.get_by_role("region", name="Failed jobs of")
    expect(failed.get_by_role("row")).to_have_count(3)
    expect(failed).to_contain_text(f"RuntimeError: {HOSTILE}")
    assert page.locator("main script, main img").count() == 0
    expect(page).to_have_title("Status - pg_semantic")
    assert points(visit, "coverage", 1) == [pytest.approx(200 / 3)]
    visit.picture("status")


def test_the_figures_refresh_themselves_unless_told_not_to(
    visit: Visit, service: httpx2.Client, failing: sa.Engine
) -> None:
    visit.page.clock.install()
    enter(visit, service)
    page = visit.page
    mend(failing)
    page.clock.fast_forward(5000)
    expect(page.locator("tr.figure")).to_contain_text("100.0%")
    assert points(visit, "coverage", 2) == [pytest.approx(200 / 3), 100]
    assert len(points(visit, "lag", 2)) == len(points(visit, "rate", 2)) == 2
    page.get_by_label("Refresh every 5 seconds").uncheck()
    asked: list[str] = []
    page.on("request", lambda one: asked.append(one.url))
    page.clock.fast_forward(60_000)
    page.get_by_label("Refresh every 5 seconds").check()
    with page.expect_response("**/page/figures"):
        page.clock.fast_forward(5000)
    assert len(asked) == 1


def test_a_button_keeps_the_focus_when_the_figures_refresh(visit: Visit, service: httpx2.Client) -> None:
    visit.page.clock.install()
    enter(visit, service)
    button = visit.page.get_by_role("button", name="Retry row 5")
    button.focus()
    visit.page.locator("#now").evaluate("one => one.remove()")
    visit.page.clock.fast_forward(5000)
    expect(visit.page.locator("#now")).to_be_visible()
    expect(button).to_be_focused()


def test_one_failed_job_is_retried_or_all_are(visit: Visit, service: httpx2.Client, failing: sa.Engine) -> None:
    enter(visit, service)
    page = visit.page
    page.get_by_role("button", name="Retry row 5").click()
    expect(page.get_by_role("status")).to_have_text(f"Rows of {INDEX} put back into the queue: 1.")
    expect(page.get_by_role("heading", name=f"{INDEX}: 1 failed")).to_be_visible()
    assert rows(failing, "SELECT key FROM semantic.job WHERE state = 'pending'") == [("5",)]
    page.get_by_role("button", name=f"Retry all of {INDEX}").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_text("No failed jobs.")).to_be_visible()
    sync(failing)
    assert jobs(failing) == set()


def test_a_generation_is_switched_to_and_rolled_back_once_it_is_ready(
    visit: Visit, service: httpx2.Client, failing: sa.Engine
) -> None:
    begin(failing)
    enter(visit, service)
    page, asked = visit.page, answer_dialogs(visit)
    visit.expect_refusals(409)
    button = page.get_by_role("button", name=f"Switch {INDEX} to this generation")
    visit.picture("generations")
    button.click()
    expect(page.get_by_role("alert")).to_contain_text("is not ready")
    mend(failing)
    button.click()
    expect(page.get_by_role("status")).to_contain_text("the next generation is live")
    expect(page.get_by_role("alert")).to_be_empty()
    assert roles(failing) == {("live", "hashed:48"), ("previous", "hashed:32")}
    page.get_by_role("button", name=f"Roll {INDEX} back to this generation").click()
    expect(page.get_by_role("status")).to_contain_text("rolled back")
    assert roles(failing) == {("live", "hashed:32"), ("next", "hashed:48")}
    assert [INDEX in one for one in asked] == [True] * 3


def test_nothing_is_done_when_the_person_says_no(visit: Visit, service: httpx2.Client, failing: sa.Engine) -> None:
    begin(failing)
    mend(failing)
    enter(visit, service)
    asked: list[str] = []
    visit.page.on("request", lambda one: asked.append(one.url))
    visit.page.get_by_role("button", name=f"Switch {INDEX} to this generation").click()  # Playwright says no by itself
    visit.page.locator("#refresh").uncheck()
    assert roles(failing) == {("live", "hashed:32"), ("next", "hashed:48")}
    assert not any("switch" in one for one in asked)


@pytest.mark.parametrize("action", ["retry", "switch", "rollback"])
def test_without_the_key_nothing_is_done(service: httpx2.Client, failing: sa.Engine, action: str) -> None:
    body, page = {"index": INDEX}, {"HX-Request": "true"}
    assert service.post(f"/page/{action}", data=body, headers=page).status_code == 401
    wrong = page | {"Authorization": "Bearer wrong"}
    assert service.post(f"/page/{action}", data=body, headers=wrong).status_code == 401
    assert rows(failing, "SELECT count(*) FROM semantic.job WHERE state = 'failed'") == [(2,)]
    assert service.get("/page/figures", headers=page).status_code == 401


@pytest.mark.parametrize("action", ["retry", "switch", "rollback"])
def test_no_action_is_asked_for_by_get(service: httpx2.Client, action: str) -> None:
    headers = {"HX-Request": "true", "Authorization": f"Bearer {KEY}"}
    assert service.get(f"/page/{action}?index={INDEX}", headers=headers).status_code == 405


def test_a_service_without_a_key_shows_all_and_does_nothing(visit: Visit, failing: sa.Engine) -> None:
    with serving.running(encoder(), engine=failing) as client:
        page = visit.page
        page.goto(f"{client.base_url}/status")
        visit.expect_refusals(403)
        page.get_by_role("button", name="Retry row 5").click()
        expect(page.get_by_role("alert")).to_contain_text(variable("service_api_key"))
        assert rows(failing, "SELECT count(*) FROM semantic.job WHERE state = 'failed'") == [(2,)]


def test_the_page_is_accessible_and_fits_a_phone(visit: Visit, service: httpx2.Client, failing: sa.Engine) -> None:
    begin(failing)
    enter(visit, service)
    visit.check_accessible()
    visit.check_fits_a_phone("status")
