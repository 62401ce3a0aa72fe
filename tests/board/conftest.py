"""One Chromium for a module, and tabs that must end without an error."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, expect

from support.rig.browser import Tab, open_browser

expect.set_options(timeout=15_000)  # of two busy cores, four browsers take a page's time


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """For a module only: while it is open, this process runs an event loop, and async tests need another."""
    with open_browser() as browser:
        yield browser


@pytest.fixture
def new_tab(browser: Browser) -> Iterator[Callable[..., Tab]]:
    """Opens tabs. None may meet an error of a script, refused markup, or another host."""
    tabs: list[Tab] = []

    def open_tab(**how: Any) -> Tab:
        tabs.append(Tab(browser, **how))
        return tabs[-1]

    yield open_tab
    errors = [error for tab in tabs for error in tab.errors]
    foreign = [
        each.url for tab in tabs for each in tab.requests if not each.url.startswith("http://127.0.0.1:")
    ]
    for tab in tabs:
        tab.close()
    assert errors == []
    assert foreign == []
