"""The page of a probe's target on a real fleet: slow, then failing, then well."""

import contextlib
from collections.abc import Iterator

import httpx
import pytest
from playwright.sync_api import expect

from support.rig import PLAIN, Fleet, free_port
from support.rig.browser import PHONE, Tabs, find_violations, needs_chromium
from support.rig.web_site import Page, Site
from support.waiting import until

pytestmark = [needs_chromium, pytest.mark.live]

BEATS = {"interval_sec": 0.5, "timeout_sec": 5}
DELAY_SEC = 0.3
SLOW_SEC = 0.25  # a bit less: two clocks measure it


class ProbedFleet:
    """A fleet that probes a page of a server of its own, and its board."""

    def __init__(self, site: Site, port: int) -> None:
        self.site, self.url = site, f"http://127.0.0.1:{port}"

    def answer(self) -> dict[str, object]:
        """Return what the board says of the target; nothing while it does not answer."""
        with contextlib.suppress(httpx.HTTPError):
            found = httpx.get(f"{self.url}/api/v1/probes/shop", timeout=10, verify=PLAIN)
            return dict(found.json()) if found.status_code == 200 else {}
        return {}


@pytest.fixture(scope="module")
def probed(tmp_path_factory) -> Iterator[ProbedFleet]:
    port = free_port()
    with Site({"/": Page(delay_sec=DELAY_SEC)}) as site:
        target = {"name": "shop", "url": site.url(), "timeout_sec": 20}
        truth = {
            "services": {
                **{svc: {"heartbeat": BEATS} for svc in ("healer", "board")},
                "massive": {
                    "heartbeat": BEATS,
                    "settings": {"probe_sec": 0.3, "down_after": 2, "up_after": 1, "targets": [target]},
                },
            }
        }
        folder = tmp_path_factory.mktemp("probed")
        with Fleet(folder, truth, ["healer", "massive", "board"], {"BOARD_PORT": str(port)}) as fleet:
            yield ProbedFleet(site, port)
            assert "Traceback" not in fleet["massive"].text() + fleet["board"].text()


def test_a_page_that_is_slow_then_fails_then_is_well(probed: ProbedFleet, new_tab: Tabs):
    slow = until(lambda: (found := probed.answer()).get("state") == "up" and found)
    assert slow["latest"]["total_sec"] >= SLOW_SEC
    assert slow["hour"][-1]["most_sec"] >= SLOW_SEC
    assert {"dns", "tcp", "http"} <= set(slow["latest"]["steps_sec"])

    probed.site.pages["/"] = Page(status=503)
    down = until(lambda: (found := probed.answer()).get("state") == "down" and found)
    assert (down["error"], down["failures"][0]["is_open"]) == ("status_503", True)
    tab = new_tab()
    page = tab.open(f"{probed.url}/services/massive/shop")
    expect(page.locator(".head")).to_contain_text("status_503 since", timeout=60_000)
    assert page.locator(".probe .d").count() >= 1

    probed.site.pages["/"] = Page()
    well = until(lambda: (found := probed.answer()).get("state") == "up" and found)
    assert (well["failures"][0]["error"], well["failures"][0]["is_open"]) == ("status_503", False)
    assert 0 < well["uptime"]["1h"]["share"] < 1
    expect(page.locator(".head")).not_to_contain_text("since", timeout=60_000)
    expect(page.locator("main")).to_contain_text("http: status_503", timeout=60_000)
    expect(page.locator("main")).to_contain_text("massive/shop is down", timeout=60_000)

    page.goto(f"{probed.url}/services/massive")
    page.get_by_role("link", name="massive/shop").first.click()
    expect(page.locator("h1")).to_have_text("massive/shop")
    page.set_viewport_size(PHONE)
    assert find_violations(page) == []
    wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert wide <= 0
    unscripted = new_tab(java_script_enabled=False)
    unscripted.page.goto(f"{probed.url}/services/massive/shop")
    expect(unscripted.page.locator(".probe")).to_have_count(3)


def test_what_is_no_target_is_not_found(probed: ProbedFleet):
    until(probed.answer)
    for path in ("/services/massive/nobody", "/api/v1/probes/nobody"):
        assert httpx.get(probed.url + path, timeout=10, verify=PLAIN).status_code == 404
    (one,) = httpx.get(f"{probed.url}/api/v1/probes", timeout=10, verify=PLAIN).json()
    assert one["svc"] == "massive/shop"
