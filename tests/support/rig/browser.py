"""The system's Chromium, driven by playwright: a page with the errors that it met."""

import contextlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, Playwright, Request, sync_playwright

# the one without windows takes half the processor: it loads no pages for a tab strip and panels of its own
PROGRAM = "chromium-headless-shell" if shutil.which("chromium-headless-shell") else "chromium"
# no sandbox: tests run as root in containers, and load nothing but our own pages
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
DESK, PHONE = {"width": 1440, "height": 900}, {"width": 390, "height": 844}
AXE = Path(__file__).parents[2] / "board" / "vendor" / "axe.min.js"
RUN_AXE = """async () => (await axe.run(document, {
  runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"],
  resultTypes: ["violations"], selectors: false,  // what passes is not described, nor is where it is
})).violations.map(
  (one) => `${one.id}: ${one.help}: ${one.nodes.slice(0, 3).map(node => node.html).join(" | ")}`
)"""
needs_chromium = pytest.mark.needs(PROGRAM)


@contextlib.contextmanager
def open_browser() -> Iterator[Browser]:
    """Starts Chromium, and ends it with all that it started."""
    with sync_playwright() as playwright:
        browser = launch(playwright)
        try:
            yield browser
        finally:
            browser.close()


def launch(playwright: Playwright) -> Browser:
    return playwright.chromium.launch(executable_path=shutil.which(PROGRAM), args=list(FLAGS))


def find_violations(page: Page) -> list[str]:
    """Return what axe-core finds on a page, a line for each rule that is broken."""
    if not page.evaluate("'axe' in window"):
        page.evaluate(f"{AXE.read_text(encoding='utf-8')}; 0")
    found: list[str] = page.evaluate(RUN_AXE)
    return found


class Tab:
    """A page of the browser, with what went wrong there: errors, refused markup, requests to other hosts."""

    def __init__(self, browser: Browser, **how: Any) -> None:
        how = {"viewport": DESK, "color_scheme": "light", "locale": "en-GB", "timezone_id": "UTC", **how}
        self.context = browser.new_context(**how)
        self.page: Page = self.context.new_page()
        self.errors: list[str] = []
        self.requests: list[Request] = []
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", self._note)
        self.page.on("request", lambda request: self.requests.append(request))

    def _note(self, message: ConsoleMessage) -> None:
        # a lost server is noted by the browser itself; what the page makes of it is what a test looks at
        if message.type == "error" and "net::" not in message.text:
            self.errors.append(message.text)

    def forget_errors(self, status: int) -> None:
        """Forgets requests that were refused with a status, as the test wanted: the browser notes each."""
        self.errors[:] = [error for error in self.errors if f"status of {status}" not in error]

    def open(self, url: str, *, live: bool = True, within_sec: float = 60) -> Page:
        """Goes there, and waits until the page follows the fleet."""
        self.page.goto(url)
        if live:
            self.page.wait_for_selector("body.live", timeout=1000 * within_sec)
        return self.page

    def close(self) -> None:
        self.context.close()


def sign_in(page: Page, token: str) -> None:
    """Go on from a page with the link to the sign-in page."""
    page.get_by_role("link", name="sign in").click()
    page.get_by_label("Token").fill(token)
    page.get_by_role("button", name="Sign in").click()


Tabs = Callable[..., Tab]
"""The fixture `new_tab` of the board's tests: it opens a tab, with the options of a browser context."""
