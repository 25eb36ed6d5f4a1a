"""The README's pictures of the search page: they exist, are small, and show the page as it is now.

With UPDATE_PICTURES=1, they are taken anew, of tldr pages with real vectors.
"""

import itertools
import os
import struct
from collections.abc import Iterator

import httpx2
import pytest
import sqlalchemy as sa
from playwright.sync_api import Page, expect
from sqlalchemy import orm

from pg_semantic import database, encoders
from pg_semantic.demo import tldr_pages
from tests import documents
from tests.conftest import copy_of
from tests.db.library import encoder, execute, sync
from tests.pages.visit import Visit
from tests.service import serving

FOLDER = documents.ROOT / "docs" / "images"
PICTURES = {scheme: FOLDER / f"search-page-{scheme}.png" for scheme in ("light", "dark")}
OUTLINE = FOLDER / "search-page.txt"
ADVICE = "the search page has changed: UPDATE_PICTURES=1 python -m pytest tests/pages/test_pictures.py"

SIZE = {"width": 1200, "height": 760}
MOST_BYTES = 200_000
QUERY = "see what is using my disk"
EVERY = 4  # of the tldr pages, one is loaded

# The kinds of elements on the page, whatever their number, and the words that don't come from rows.
_OUTLINE = """() => {
    const found = new Set();
    const walk = (one, path) => {
        const names = [...one.classList].filter(name => !name.startsWith("htmx-")).map(name => `.${name}`);
        const here = `${path} ${one.tagName.toLowerCase()}${names.join("")}`.trim();
        found.add(here);
        for (const child of one.children) if (!child.matches("mark, option, dl.values *")) walk(child, here);
    };
    walk(document.body, "");
    const texts = [...document.querySelectorAll("h1, h2, label, button, .about")].map(one => one.textContent.trim());
    for (const text of texts) found.add(`"${text}"`);
    return [...found].sort();
}"""


@pytest.fixture
def small(articles: sa.Engine) -> Iterator[httpx2.Client]:
    """A service whose page has every kind of element that the pictures have."""
    execute(
        articles, "INSERT INTO article SELECT i, 'harbour ' || i, 'A candle.', 'en' FROM generate_series(1, 5) AS i"
    )
    execute(articles, "INSERT INTO article VALUES (6, 'engine', 'No light.', 'en')")
    sync(articles)
    with serving.running(encoder(), engine=articles) as made:
        yield made


@pytest.fixture
def tldr(server: sa.URL, template: str) -> Iterator[httpx2.Client]:
    """A service with tldr pages and their real vectors."""
    with copy_of(server, template) as dsn:
        engine = database.connect(dsn)
        tldr_pages.Base.metadata.create_all(engine)
        with orm.Session(engine) as session:
            session.add_all(itertools.islice(tldr_pages.pages(), None, None, EVERY))
            session.commit()
        sync(engine)
        with serving.running(encoders.load(tldr_pages.ENCODER), engine=engine) as made:
            yield made


def search(page: Page, service: httpx2.Client, text: str) -> None:
    page.goto(str(service.base_url))
    expect(page.get_by_label("Semantic index")).to_contain_text("semantic")
    page.get_by_role("spinbutton", name="Rows").fill("5")
    page.get_by_label("Query").fill(text)
    page.keyboard.press("Enter")
    expect(page.get_by_role("status")).to_contain_text("Dense: 5 rows")


def outline(visit: Visit, service: httpx2.Client) -> list[str]:
    search(visit.page, service, "harbour candle")
    found: list[str] = visit.page.evaluate(_OUTLINE)
    return found


@pytest.mark.skipif(not os.environ.get("UPDATE_PICTURES"), reason="UPDATE_PICTURES=1 takes the README's pictures anew")
def test_the_pictures_are_taken(visit: Visit, tldr: httpx2.Client, small: httpx2.Client) -> None:
    FOLDER.mkdir(exist_ok=True)
    visit.page.set_viewport_size({"width": SIZE["width"], "height": SIZE["height"]})
    search(visit.page, tldr, QUERY)
    visit.page.evaluate("document.activeElement.blur()")
    for scheme in ("light", "dark"):
        visit.page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
        visit.page.screenshot(path=PICTURES[scheme])
    OUTLINE.write_text("\n".join(outline(visit, small)) + "\n")


def test_the_pictures_show_the_page_as_it_is(visit: Visit, small: httpx2.Client) -> None:
    assert OUTLINE.read_text().splitlines() == outline(visit, small), ADVICE


@pytest.mark.parametrize("scheme", PICTURES)
def test_each_picture_is_a_png_of_a_size_for_a_readme(scheme: str) -> None:
    picture = PICTURES[scheme].read_bytes()
    assert picture.startswith(b"\x89PNG\r\n\x1a\n")
    assert struct.unpack(">II", picture[16:24]) == (SIZE["width"], SIZE["height"])
    assert len(picture) < MOST_BYTES
