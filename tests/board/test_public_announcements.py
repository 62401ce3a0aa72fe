"""People announce an incident on the board of a real fleet, and everyone reads it on the public page."""

import pytest
from playwright.sync_api import Route, expect

from support.rig.browser import Tabs, needs_chromium, sign_in
from support.rig.steered_fleet import SteeredFleet

pytestmark = [needs_chromium, pytest.mark.live]


def test_an_incident_is_announced_updated_and_withdrawn_without_a_script(fleet: SteeredFleet, new_tab: Tabs):
    token = str(fleet.shell.said("token", "create", "kim", "--scope", "write", "--by", "kim").strip())
    page = new_tab(java_script_enabled=False).page
    reader = new_tab(java_script_enabled=False).page
    page.goto(f"{fleet.url}/announcements")
    sign_in(page, token)
    assert page.url == f"{fleet.url}/announcements"

    page.locator("#incident-title").fill("No <b>backups</b>")
    page.locator("#incident-text").fill("We look into it.\nMore at noon.")
    page.get_by_role("button", name="Publish").first.click()
    expect(page.locator(".said")).to_have_text("Published: No <b>backups</b>.")
    reader.goto(f"{fleet.url}/public")
    expect(reader.locator("h1")).to_have_text("1 of 1 down")
    expect(reader.get_by_role("heading", name="No <b>backups</b>")).to_be_visible()
    expect(reader.get_by_text("We look into it.")).to_be_visible()
    assert "kim" not in reader.content()

    page.get_by_text("Update …").click()
    page.locator("textarea[id^=text-]").fill("It was a disk.")
    page.locator("select[id^=state-]").select_option("identified")
    page.get_by_role("button", name="Publish the update").click()
    expect(page.locator(".said")).to_contain_text("the update is published")
    reader.reload()
    expect(reader.get_by_text("It was a disk.")).to_be_visible()
    expect(reader.locator(".announcement .st")).to_have_text("identified")

    page.get_by_text("Update …").click()
    page.locator("textarea[id^=text-]").fill("A mistake.")
    page.locator("select[id^=state-]").select_option("withdrawn")
    page.get_by_role("button", name="Publish the update").click()
    expect(page.locator(".said")).to_contain_text("the update is published")
    reader.reload()
    assert reader.locator(".announcement").count() == 0
    assert fleet.refused() == {}


def test_a_button_that_is_clicked_twice_publishes_once(fleet: SteeredFleet, new_tab: Tabs):
    page = new_tab().page
    page.goto(f"{fleet.url}/announcements")
    sign_in(
        page, str(fleet.shell.said("token", "create", "twice", "--scope", "write", "--by", "kim").strip())
    )
    page.wait_for_selector("body.live")
    sent: list[Route] = []
    page.route("**/act/announce", lambda route: sent.append(route))
    if page.locator("#new-incident").get_attribute("open") is None:
        page.locator("#new-incident > summary").click()
    page.locator("#incident-title").fill("Slow")
    page.locator("#incident-text").fill("We look into it.")
    publish = page.get_by_role("button", name="Publish").first
    publish.scroll_into_view_if_needed()
    box = publish.bounding_box()
    assert box is not None
    for _ in range(2):
        page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        page.wait_for_timeout(300)
    assert len(sent) == 1
    sent[0].continue_()
    expect(page.locator(".said")).to_have_text("Published: Slow.")


def test_a_program_announces_maintenance(fleet: SteeredFleet):
    body = {"title": "New disks", "text": "No backups meanwhile.", "begins_at": 4e9, "ends_at": 4e9 + 60}
    made = fleet.ask("POST", "/announcements", body)
    assert (made.status_code, made.json()["updates"][0]["state"]) == (201, "scheduled")
    ident = made.json()["updates"][0]["id"]
    changed = fleet.ask("PATCH", f"/announcements/{ident}", {"text": "Put off.", "state": "withdrawn"})
    assert (changed.status_code, len(changed.json()["updates"])) == (200, 2)
    with fleet.operator() as client:
        entries = [fields for _, fields in client.xrevrange("board:audit", count=4)]
    assert [each["action"] for each in entries] == ["update_announcement"] * 2 + ["announce"] * 2
    assert fleet.refused() == {}
