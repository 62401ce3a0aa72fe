"""One Chromium for a worker, tabs that must end without an error, and a server for what the board keeps."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, expect
from xdist.remote import Producer

from support.by_fixture import ByFixture
from support.market_board import MarketBoard, open_market, run_apart
from support.postgres import Postgres, postgres
from support.rig.browser import Tab, Tabs, open_browser
from support.rig.one_server import empty_bus, server
from support.rig.steered_fleet import SteeredFleet, run_steered_fleet
from support.scenes.board import BoardFleet, open_board
from support.waiting import until

__all__ = ["postgres", "server"]
expect.set_options(timeout=15_000)  # of two busy cores, four browsers take a page's time

HERE = Path(__file__).parent
SHARED = {
    "steered_fleet": (
        "board_actions",
        "notifications_page",
        "public_announcements",
        "steering_forms",
        "truth_pages",
    ),
    "market": ("market_chart_days", "market_charts", "market_pages", "trader_walk"),
    "board_fleet": ("board", "brand", "real_fleet", "walks"),
}
"""Which files share what lasts for a session: one worker runs all of them, so that it is started once.

The walks share nothing. A file of one or two tests would be given out last, and they take longest.
"""
WITHOUT_LOOP = {"new_tab", "steered_fleet", "board_fleet", "played"}
"""Fixtures of tests that run no event loop of their own, beside which the browser stays open."""


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> ByFixture:
    return ByFixture(config, log, SHARED)


class Chromium:
    """The browser of this worker, which is opened for its first tab.

    While it is open, this process runs an event loop: what needs another one closes it before.
    """

    def __init__(self) -> None:
        self._ends = contextlib.ExitStack()
        self._browser: Browser | None = None

    def get(self) -> Browser:
        if self._browser is None:
            self._browser = self._ends.enter_context(open_browser())
        return self._browser

    def close(self) -> None:
        self._browser = None
        self._ends.close()


@pytest.fixture(scope="session")
def chromium() -> Iterator[Chromium]:
    chromium = Chromium()
    yield chromium
    chromium.close()


@pytest.hookimpl(trylast=True)  # after the fixtures, of which some close their tabs
def pytest_runtest_teardown(item: pytest.Function, nextitem: pytest.Item | None) -> None:
    """Close the browser before the first test of another folder, too."""
    if nextitem is not None and not nextitem.path.is_relative_to(HERE) and "chromium" in item.funcargs:
        item.funcargs["chromium"].close()


@pytest.fixture(autouse=True)
def _a_test_without_tabs_may_run_a_loop(request: pytest.FixtureRequest, chromium: Chromium) -> None:
    if WITHOUT_LOOP.isdisjoint(request.fixturenames):
        chromium.close()


@pytest.fixture
def new_tab(chromium: Chromium) -> Iterator[Tabs]:
    """Opens tabs. None may meet an error of a script, refused markup, or another host."""
    tabs: list[Tab] = []

    def open_tab(**how: Any) -> Tab:
        tabs.append(Tab(chromium.get(), **how))
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


@pytest.fixture(scope="session")
def board_fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BoardFleet]:
    with open_board(tmp_path_factory.mktemp("board")) as board:
        yield board


@pytest.fixture
def board(board_fleet: BoardFleet) -> BoardFleet:
    """The fleet of this worker as it was at first, whatever the test before did to it."""
    board_fleet.settle()
    return board_fleet


@pytest.fixture(scope="session")
def market(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MarketBoard]:
    """A board with a market, which the tests of its pages share."""
    with open_market(tmp_path_factory.mktemp("pages"), run_apart(postgres.new_archive)) as market:
        yield market


@pytest.fixture(scope="session")
def steered_fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SteeredFleet]:
    """A fleet with users and passwords, which people and programs steer through its board."""
    with run_steered_fleet(tmp_path_factory.mktemp("steered")) as fleet:
        yield fleet


@pytest.fixture
def fleet(steered_fleet: SteeredFleet) -> SteeredFleet:
    """The steered fleet of this worker, with a new token; nobody knows yet that `backup` is down."""
    steered_fleet.receiver.always = 200  # whatever the test before left
    steered_fleet.make_token()
    if steered_fleet.ask("GET", "/services/backup").json()["acked_by"] is not None:
        steered_fleet.shell.said("beat", "backup")
        until(lambda: steered_fleet.state("backup") == "up", what="the end of an outage")
    until(lambda: steered_fleet.state("backup") == "down", what="the outage of backup")
    return steered_fleet


bus = empty_bus("system-redis")
