"""A headless Chromium, and services for it to look at."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright import sync_api
from playwright.sync_api import Browser

from tests import documents
from tests.pages.visit import Visit

_FOLDER = documents.ROOT / ".pytest_cache" / "screenshots"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's Chromium. Not for longer than a module: while it is there, this thread has an event loop that runs."""
    program = shutil.which("chromium")
    if not program and not os.environ.get("REQUIRE_CHROMIUM"):
        pytest.skip("The tests of the pages need Chromium: apt-get install chromium")
    assert program
    with sync_api.sync_playwright() as playwright:
        made = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield made
        made.close()


@pytest.fixture(scope="session")
def screenshots() -> Path:
    """The folder that pictures of the pages go to."""
    folder = Path(os.environ.get("SCREENSHOTS", _FOLDER))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture
def visit(browser: Browser, screenshots: Path) -> Iterator[Visit]:
    """A tab of its own, in which nothing may go wrong that the test does not expect."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    context.set_default_timeout(15_000)
    made = Visit(context.new_page(), screenshots)
    yield made
    context.close()
    assert made.unforeseen == []
