"""axe-core finds nothing on a page of each kind, in both themes, on a desk and on a phone."""

import pytest

from support.board_examples import make_small
from support.board_pages import make_pages
from support.fixtures import opened
from support.rig.board_site import BoardSite
from support.rig.browser import DESK, PHONE, Tabs, find_violations, needs_chromium

pytestmark = needs_chromium
KINDS = ("/", "/services", "/incidents", "/alerts", "/topology", "/truth/edit", "/truth/add", "/public")
"""A page of each kind: a table that is searched, a service, cards, a list, a picture, a form, no script."""
OTHERS = {*make_pages(make_small()), "/alerts/one", "/?group=tag", "/?wall=1", "/announcements?session=1"}
VARIANT = pytest.mark.nightly("test_axe_finds_nothing looks at a page of each kind, light and dark")

site = opened(lambda: BoardSite(make_small()), scope="module")


@pytest.mark.parametrize(
    "path", [*KINDS, *(pytest.param(path, marks=VARIANT) for path in sorted(OTHERS - {*KINDS}))]
)
def test_axe_finds_nothing(site: BoardSite, new_tab: Tabs, path: str):
    page = new_tab().open(site.url + path, live=path not in ("/public", "/missing"))
    assert find_violations(page) == []
    page.emulate_media(color_scheme="dark")
    page.set_viewport_size(PHONE)
    assert find_violations(page) == []


@VARIANT
@pytest.mark.parametrize("path", sorted({*KINDS, *OTHERS}))
def test_axe_finds_nothing_the_other_way_round(site: BoardSite, new_tab: Tabs, path: str):
    page = new_tab(color_scheme="dark").open(site.url + path, live=path not in ("/public", "/missing"))
    assert find_violations(page) == []
    page.emulate_media(color_scheme="light")
    page.set_viewport_size(PHONE)
    assert find_violations(page) == []


def test_axe_finds_nothing_in_the_list_of_keys_nor_on_a_page_that_is_not_current(new_tab: Tabs):
    with BoardSite(make_small()) as site:
        page = new_tab(viewport=DESK).open(site.url)
        page.keyboard.press("?")
        assert find_violations(page) == []
        page.keyboard.press("Escape")
        site.stop()
        page.wait_for_selector("body.stale")
        assert find_violations(page) == []


def test_axe_sees_what_is_wrong(site: BoardSite, new_tab: Tabs):
    """The proof that the tests above would fail."""
    page = new_tab().open(site.url)
    page.evaluate("document.querySelector('input').removeAttribute('aria-label')")
    page.evaluate("document.querySelector('input').removeAttribute('placeholder')")
    assert [each.partition(":")[0] for each in find_violations(page)] == ["label"]


def test_only_the_headline_is_read_out_when_services_change(site: BoardSite, new_tab: Tabs):
    page = new_tab().open(site.url)
    live = page.locator("main [aria-live], main [role=status], main [role=alert], main [role=log]")
    assert live.evaluate_all("all => all.map(each => each.id)") == ["headline"]
