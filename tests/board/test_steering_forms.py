"""People steer a real fleet on the pages, in a browser that runs no script too."""

import time
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from playwright.sync_api import Page, expect

from support.rig.browser import Tabs, needs_chromium, sign_in
from support.rig.steered_fleet import SteeredFleet
from support.waiting import until

pytestmark = [needs_chromium, pytest.mark.live]
AXE = (Path(__file__).parent / "vendor" / "axe.min.js").read_text(encoding="utf-8")
RUN = """async () => (await axe.run(document)).violations.map(
  (one) => `${one.id}: ${one.nodes.slice(0, 3).map(node => node.html).join(" | ")}`
)"""

FORGED = (
    '<form method="post" action="%s/act/silence"><input name="svc" value="backup">'
    '<input name="reason" value="x"><input name="for_sec" value="60"><button>Win</button></form>'
)


def create_token(fleet: SteeredFleet, name: str) -> str:
    return str(fleet.shell.said("token", "create", name, "--scope", "write", "--by", "kim").strip())


def find_cookie(page: Page) -> dict[str, Any]:
    (cookie,) = page.context.cookies()
    return dict(cookie)


def list_silences(fleet: SteeredFleet) -> list[dict[str, Any]]:
    return list(orjson.loads(fleet.shell.said("silences", "--json")))


def test_without_a_script_a_person_signs_in_acknowledges_silences_and_tests(
    fleet: SteeredFleet, new_tab: Tabs
):
    token = create_token(fleet, "pages")
    page = new_tab(java_script_enabled=False).page
    page.goto(f"{fleet.url}/incidents")
    expect(page.get_by_text("marketswarm token create NAME --scope write")).to_be_visible()
    assert page.get_by_role("button", name="Acknowledge backup").count() == 0
    sign_in(page, token)
    assert page.url == f"{fleet.url}/incidents"
    cookie = find_cookie(page)
    assert (cookie["httpOnly"], cookie["sameSite"], cookie["path"]) == (True, "Strict", "/")
    assert 0 < cookie["expires"] - time.time() <= 12 * 3600 + 5

    page.locator("#ack-by-backup").fill("lena")
    page.get_by_role("button", name="Acknowledge backup").click()
    expect(page.locator(".said")).to_contain_text("lena")
    expect(page.get_by_text("nothing: lena sees to it")).to_be_visible()

    page.get_by_label("Silence backup for a while").click()
    page.get_by_label("because of").fill("new <b>disks</b>")
    page.get_by_role("button", name="Silence backup", exact=True).click()
    expect(page.locator(".said")).to_have_text("backup: silenced for 60 min.")
    (made,) = list_silences(fleet)
    assert (made["services"], made["author"], made["reason"]) == (["backup"], "lena", "new <b>disks</b>")
    page.goto(f"{fleet.url}/services/backup")
    expect(page.get_by_text("Silenced until")).to_contain_text("new <b>disks</b> (lena)")
    page.get_by_role("button", name="End the silence of backup").click()
    expect(page.locator(".said")).to_have_text("backup: not silenced any more.")
    assert page.url.startswith(f"{fleet.url}/services/backup?said=")
    assert list_silences(fleet) == []
    assert page.get_by_text("Silenced until").count() == 0

    page.goto(f"{fleet.url}/notifications")
    page.get_by_role("button", name="Send a test").click()
    expect(page.locator(".said")).to_contain_text("200")
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_label("Token")).to_be_visible()
    assert page.context.cookies() == []


def test_a_form_that_another_site_sends_is_refused(fleet: SteeredFleet, new_tab: Tabs):
    tab = new_tab()
    page = tab.page
    page.goto(f"{fleet.url}/incidents")
    sign_in(page, create_token(fleet, "forged"))
    cookie = find_cookie(page)
    csrf = page.locator("input[name=csrf]").first.get_attribute("value")
    fields = {"svc": "backup", "for_sec": "3600", "reason": "forged", "csrf": csrf}
    cookies = {cookie["name"]: cookie["value"]}
    for origin, given in (
        ("http://evil.example", csrf),
        (f"http://127.0.0.1:{fleet.port + 1}", csrf),
        ("null", csrf),
        (fleet.url, "guessed"),
        (fleet.url, ""),
    ):
        answer = httpx.post(
            f"{fleet.url}/act/silence",
            data=fields | {"csrf": given},
            cookies=cookies,
            headers={"Origin": origin},
        )
        assert answer.status_code == 403, origin
    assert list_silences(fleet) == []
    # a page of another port in the same browser, which sends the cookie: to it, that is the same site
    page.route(
        "http://127.0.0.1:1/*", lambda route: route.fulfill(content_type="text/html", body=FORGED % fleet.url)
    )
    page.goto("http://127.0.0.1:1/")
    page.get_by_role("button").click()
    expect(page.get_by_text("403")).to_be_visible()
    assert list_silences(fleet) == []
    tab.forget_errors(403)


def test_with_a_revoked_token_the_session_ends(fleet: SteeredFleet, new_tab: Tabs):
    token = create_token(fleet, "short")
    page = new_tab().page
    page.goto(f"{fleet.url}/services/backup")
    sign_in(page, token)
    assert page.url == f"{fleet.url}/services/backup"
    page.get_by_label("Silence backup for a while").click()
    page.get_by_label("because of").fill("too late")
    fleet.shell.said("token", "revoke", token.split("_")[1])
    page.get_by_role("button", name="Silence backup", exact=True).click()
    expect(page.get_by_text("Your session has ended")).to_be_visible()
    assert list_silences(fleet) == []


def test_what_somebody_types_survives_that_the_page_changes_and_axe_finds_nothing(
    fleet: SteeredFleet, new_tab: Tabs
):
    tab = new_tab()
    page = tab.open(f"{fleet.url}/sign-in", live=False)
    page.evaluate(f"{AXE}; 0")
    assert page.evaluate(RUN) == []
    page.goto(f"{fleet.url}/incidents")
    sign_in(page, create_token(fleet, "typing"))
    page.wait_for_selector("body.live")
    page.get_by_label("Silence backup for a while").click()
    page.get_by_label("because of").fill("half a sen")
    page.locator("h1").click()  # the focus is in no field any more
    page.evaluate(f"{AXE}; 0")
    assert page.evaluate(RUN) == []
    body = {"services": ["heal*"], "for_sec": 600, "reason": "something happens"}
    made = fleet.ask("POST", "/silences", body)
    try:
        expect(page.get_by_text("something happens")).to_be_visible()
        expect(page.get_by_label("because of")).to_have_value("half a sen")
        expect(page.get_by_label("because of")).to_be_visible()
        assert fleet.ask("POST", "/incidents/backup/ack", {"by": "zoe"}).status_code == 200
        expect(page.get_by_text("nothing: zoe sees to it")).to_be_visible()  # in the card that has the form
        expect(page.get_by_label("because of")).to_have_value("half a sen")
        expect(page.get_by_label("because of")).to_be_visible()
    finally:
        fleet.ask("DELETE", f"/silences/{made.json()['id']}")


def test_every_act_is_in_the_audit_log_and_nothing_secret_is_in_any_log(fleet: SteeredFleet, new_tab: Tabs):
    token = create_token(fleet, "quiet")
    page = new_tab().page
    page.goto(f"{fleet.url}/notifications")
    sign_in(page, token)
    page.get_by_role("button", name="Send a test").click()
    expect(page.locator(".said")).to_be_visible()
    csrf = page.locator("input[name=csrf]").first.get_attribute("value")
    with fleet.operator() as client:
        entries = [fields for _, fields in client.xrange("board:audit")]
    mine = [each for each in entries if each["name"] == "quiet"]
    assert [(each["action"], each["outcome"]) for each in mine] == [("test", "begun"), ("test", "done")]
    until(lambda: "board.signed_in" in fleet.logs(), what="the log to be written")
    for secret in (token.rpartition("_")[2], find_cookie(page)["value"], csrf):
        assert secret
        assert secret not in repr(entries)
        assert secret not in fleet.logs()
    assert fleet.refused() == {}
