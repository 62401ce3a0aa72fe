"""What a receiver refused for good is shown, and sent again, in a browser without a script."""

import pytest
from playwright.sync_api import expect

from support.board_examples import make_well
from support.rig.board_site import BoardSite
from support.rig.browser import PHONE, Tabs, find_violations, needs_chromium, sign_in
from support.rig.steered_fleet import SteeredFleet
from support.waiting import until

pytestmark = [needs_chromium, pytest.mark.live]


def find_dead(fleet: SteeredFleet) -> list[dict[str, str]]:
    """Return the messages that no receiver took, once the board shows none of them as waiting any more."""
    found = fleet.ask("GET", "/notifications").json()
    return [] if found["pending"] else found["messages"]


def test_what_a_receiver_refused_is_sent_again_one_by_one(fleet: SteeredFleet, new_tab: Tabs):
    fleet.receiver.always = 400  # this message, for good
    fleet.shell.said("beat", "backup")
    (dead,) = until(lambda: find_dead(fleet), 60, "a dead message")
    # one message with what else began late, if the fleet has just started
    assert "up" in dead["title"]
    assert dead["reason"].startswith("400")

    token = fleet.shell.said("token", "create", "pages", "--scope", "write", "--by", "kim").strip()
    page = new_tab(java_script_enabled=False).page
    page.goto(f"{fleet.url}/notifications")
    expect(page.get_by_role("cell", name=dead["title"]).last).to_be_visible()
    assert page.get_by_role("button", name="Send again").count() == 0
    sign_in(page, token)

    page.get_by_role("button", name=f"Send again: {dead['title']}").click()
    expect(page.locator(".said.bad")).to_contain_text("400")
    until(lambda: find_dead(fleet), what="the message to be dead again")

    fleet.receiver.always, before = 200, len(fleet.receiver.seen)
    page.goto(f"{fleet.url}/notifications")
    page.get_by_role("button", name="Send all again").click()
    expect(page.locator(".said")).to_contain_text("200")
    assert dead["id"] in [request.id for request in fleet.receiver.seen[before:]]
    until(lambda: not fleet.ask("GET", "/notifications").json()["messages"], what="no dead message")
    page.goto(f"{fleet.url}/notifications")
    expect(page.get_by_text("Every message that was sent was delivered.")).to_be_visible()


def test_a_person_tests_one_channel_and_sees_what_it_sent_last(fleet: SteeredFleet, new_tab: Tabs):
    token = fleet.shell.said("token", "create", "pages", "--scope", "write", "--by", "kim").strip()
    page = new_tab(viewport=PHONE).open(f"{fleet.url}/notifications")
    sign_in(page, token)
    before = len(fleet.receiver.seen)
    page.get_by_role("button", name="Test webhook").click()
    expect(page.locator(".said")).to_contain_text("Webhook: 200")
    assert len(fleet.receiver.seen) > before
    row = page.get_by_role("row", name="webhook")
    expect(row).to_contain_text("works")
    expect(row).to_contain_text("This is a test")
    assert find_violations(page) == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    (status,) = fleet.ask("GET", "/notifications").json()["statuses"]
    assert (status["state"], status["record"]["sent_title"]) == ("works", "This is a test")
    assert status["where"].startswith("127.0.0.1:")
    assert "works" in fleet.shell.said("notify", "list")
    path = fleet.receiver.url.rpartition("/")[2]
    assert not path or path not in page.content()  # the host, and no more of an address


def test_a_program_sends_what_is_there_again_and_is_told_if_nothing_has_that_id(fleet: SteeredFleet):
    answer = fleet.ask("POST", "/notifications/resend")
    assert (answer.status_code, answer.json()["answers"][0]["said"]) == (200, "nothing is dead")
    assert fleet.ask("POST", "/notifications/resend", {"id": "nope"}).status_code == 409
    assert fleet.refused() == {}


def test_the_page_shows_what_the_notifier_says_of_itself(new_tab: Tabs):
    with BoardSite(make_well()) as site:
        site.change("notifier", detail="no channel is configured: no message can be sent")
        page = new_tab(java_script_enabled=False).open(f"{site.url}/notifications", live=False)
        expect(page.locator(".head")).to_contain_text("no channel is configured")
