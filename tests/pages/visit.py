"""A visit to the pages: what a person does and sees, and what the browser says went wrong."""

from pathlib import Path

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import ConsoleMessage, Page

PHONE = (360, 740)
_SERIOUS = {"serious", "critical"}


class Visit:
    """A page in a browser, and all errors that it logs: script that fails, what the policy forbids, dialogs."""

    def __init__(self, page: Page, screenshots: Path) -> None:
        self.page = page
        self.unforeseen: list[str] = []
        self._expected: tuple[str, ...] = ()
        self._screenshots = screenshots
        page.on("console", self._hear)
        page.on("pageerror", lambda error: self.unforeseen.append(str(error)))

    def expect_refusals(self, *statuses: int) -> None:
        """Lets the browser say that answers have these statuses."""
        self._expected = tuple(f"{words} {status}" for status in statuses for words in ("status of", "Error Code"))

    def picture(self, name: str) -> None:
        """Takes a picture of the whole page, in light and in dark."""
        for scheme in ("light", "dark"):
            self.page.emulate_media(color_scheme=scheme)
            self.page.screenshot(path=self._screenshots / f"{name}-{scheme}.png", full_page=True)

    def wait_for_points(self, chart: str, count: int) -> None:
        """Waits until a chart has so many points, which it gets a moment after the table."""
        self.page.wait_for_function(
            "([name, count]) => Chart.getChart(name).data.datasets.flatMap(one => one.data).length === count",
            arg=[chart, count],
        )

    def check_accessible(self) -> None:
        """Has axe look for faults, in light and in dark."""
        for scheme in ("light", "dark"):
            self.page.emulate_media(color_scheme=scheme)
            found = Axe().run(self.page).response["violations"]
            serious = [
                (one["id"], one["help"], [node["html"][:200] for node in one["nodes"]])
                for one in found
                if one["impact"] in _SERIOUS
            ]
            assert serious == [], scheme

    def check_fits_a_phone(self, name: str) -> None:
        """Takes a picture at a phone's width, beyond which nothing may reach."""
        width, height = PHONE
        self.page.set_viewport_size({"width": width, "height": height})
        self.page.wait_for_function("document.documentElement.scrollWidth <= innerWidth")
        self.page.screenshot(path=self._screenshots / f"{name}-phone.png", full_page=True)
        assert self.page.evaluate("[innerWidth, document.documentElement.scrollWidth]") == [width, width]

    def _hear(self, message: ConsoleMessage) -> None:
        expected = any(words in message.text for words in self._expected)
        if message.type in {"error", "warning"} and not expected:
            self.unforeseen.append(message.text)
