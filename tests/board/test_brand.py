"""A brand of one's own on a real board, in a browser: every page, every theme, no script of its logo."""

import json

import pytest

from support.rig.browser import DESK, PHONE, Tabs, find_violations, needs_chromium
from support.scenes.board import TRUTH, BoardFleet
from support.waiting import until

pytestmark = needs_chromium
COLOURS = {"light": "#0b5394", "dark": "#00ff88", "navy": "#ffb74d"}
SEEN = {"light": "rgb(11, 83, 148)", "dark": "rgb(0, 255, 136)", "navy": "rgb(255, 183, 77)"}
BRAND = {"name": "Example Research", "logo": "logo.svg", "primary": COLOURS, "accent": COLOURS}
LOGO = """<svg xmlns="http://www.w3.org/2000/svg" width="28" height="28"
  onload="document.documentElement.setAttribute('data-ran', '2')">
<script>document.documentElement.setAttribute("data-ran", "1")</script>
<rect width="28" height="28" rx="6" fill="#0b5394"/>
<path d="M6 20l6-8 4 4 6-9" stroke="#fff" fill="none" stroke-width="3"/>
</svg>"""
PAGES = ("/", "/services/shop", "/alerts", "/public", "/sign-in?back=fleet", "/nothing")
NAME = ".brand"


def wear(board: BoardFleet, **brand) -> None:
    """Seed the truth with a brand, and wait until the board shows it."""
    truth = json.loads(json.dumps(TRUTH))
    truth["services"]["board"]["settings"]["brand"] = brand
    board.seed(truth)
    until(lambda: brand["name"] in board.get("/sign-in?back=fleet").text, what="the brand on a page")


@pytest.fixture
def branded(board: BoardFleet) -> BoardFleet:
    board.brand.mkdir(exist_ok=True)
    (board.brand / "logo.svg").write_text(LOGO)
    wear(board, **BRAND)
    return board


def test_every_page_has_the_name_and_the_logo_in_the_colour_of_its_theme(branded, new_tab: Tabs):
    for theme, colour in SEEN.items():
        tab = new_tab()
        tab.context.add_init_script(f"localStorage.setItem('marketswarm-theme', '{theme}')")
        for path in PAGES:
            tab.page.goto(branded.url + path)
            name = tab.page.locator(NAME)
            assert name.inner_text() == BRAND["name"]
            assert name.evaluate("each => getComputedStyle(each).color") == colour
            assert name.locator("img").evaluate("each => each.complete && each.naturalWidth") == 28
            assert find_violations(tab.page) == []
        tab.errors.clear()  # the page of what is not there is an error of the browser's


def test_a_narrow_page_with_a_long_name_is_not_wider_than_its_screen(branded, new_tab: Tabs):
    wear(branded, **{**BRAND, "name": "Example Research and Development of Heartbeats GmbH and Co."})
    for size in (PHONE, DESK):
        page = new_tab(viewport=size).open(branded.url)
        assert page.evaluate("document.documentElement.scrollWidth") <= size["width"]


def test_a_logo_with_a_script_runs_none_also_where_it_is_opened_by_itself(branded, new_tab: Tabs):
    src = new_tab().open(branded.url).locator(f"{NAME} img").get_attribute("src")
    tab = new_tab()
    tab.page.goto(branded.url + src)
    assert tab.page.evaluate("document.documentElement.tagName") == "svg"
    assert tab.page.evaluate("document.documentElement.dataset.ran ?? null") is None
    refused = [each for each in tab.errors if "script" in each.lower()]
    assert refused, "the browser says that it ran no script"
    tab.errors.clear()


def test_a_logo_that_links_out_of_its_folder_is_not_shown(branded, tmp_path):
    (tmp_path / "other.svg").write_text(LOGO)
    (branded.brand / "link.svg").unlink(missing_ok=True)
    (branded.brand / "link.svg").symlink_to(tmp_path / "other.svg")
    wear(branded, **{**BRAND, "name": "Linked", "logo": "link.svg"})
    assert "<img" not in branded.get("/public").text
