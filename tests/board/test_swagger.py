"""Swagger UI of a real board in a browser: from the board's own files, and it tries requests with a token."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import expect

from support.rig.browser import Tabs, needs_chromium
from support.rig.steered_fleet import SteeredFleet, run_steered_fleet

pytestmark = needs_chromium
OPERATION = ".opblock:has(.opblock-summary-method:text-is('{}')):has([data-path='{}'])"


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SteeredFleet]:
    with run_steered_fleet(tmp_path_factory.mktemp("swagger")) as fleet:
        yield fleet


def test_swagger_takes_the_place_of_the_list_and_asks_no_other_host(fleet: SteeredFleet, new_tab: Tabs):
    tab = new_tab()
    tab.page.goto(f"{fleet.url}/docs")
    expect(tab.page.locator("h3[data-tag='health']")).to_be_visible()
    expect(tab.page.locator("#plain")).to_be_hidden()
    hosts = {each.url.split("/")[2] for each in tab.requests if each.url.startswith("http")}
    assert hosts == {fleet.url.removeprefix("http://")}
    assert tab.errors == [], "nothing that the policy of all pages refuses"
    names = tab.page.locator("h3.opblock-tag").evaluate_all("all => all.map(each => each.dataset.tag)")
    assert names == sorted(names)
    assert "pages" not in names, "each operation has a group"


def test_swagger_tries_a_request_with_a_token(fleet: SteeredFleet, new_tab: Tabs):
    tab = new_tab()
    page = tab.page
    page.goto(f"{fleet.url}/docs")
    page.locator("h3[data-tag='silences']").click()
    operation = page.locator(OPERATION.format("POST", "/api/v1/silences"))
    operation.locator(".opblock-summary-control").click()
    operation.get_by_role("button", name="Try it out").click()
    operation.locator("textarea").fill('{"services": ["backup"], "reason": "a try", "for_sec": 300}')
    operation.get_by_role("button", name="Execute").click()
    status = operation.locator(".live-responses-table .response-col_status").last
    expect(status).to_contain_text("401")
    page.get_by_role("button", name="Authorize").click()
    token = fleet.shell.said("token", "create", "swagger", "--scope", "write", "--by", "kim").strip()
    page.locator("#auth-bearer-value").fill(token)
    page.locator(".auth-btn-wrapper").get_by_role("button", name="Apply").click()
    page.locator(".auth-btn-wrapper").get_by_role("button", name="Close").click()
    operation.get_by_role("button", name="Execute").click()
    expect(status).to_contain_text("201")
    tab.forget_errors(401)


def test_without_scripts_there_is_the_plain_list(fleet: SteeredFleet, new_tab: Tabs):
    page = new_tab(java_script_enabled=False).page
    page.goto(f"{fleet.url}/docs")
    expect(page.locator("#plain")).to_be_visible()
    expect(page.get_by_text("GET /healthz")).to_be_visible()
