"""People make a ping key on the board of a real fleet with users, use it, and delete it."""

import re

import httpx
import pytest
from playwright.sync_api import Page, expect

from support.rig.browser import Tabs, needs_chromium, sign_in
from support.rig.process import PLAIN
from support.rig.steered_fleet import SteeredFleet

pytestmark = [needs_chromium, pytest.mark.live]


def enter(page: Page, fleet: SteeredFleet, *scopes: str) -> None:
    options = [word for scope in scopes for word in ("--scope", scope)]
    token = fleet.shell.said("token", "create", "kim", *options, "--by", "kim").strip()
    page.goto(f"{fleet.url}/keys")
    sign_in(page, token)


def make(page: Page, name: str, svc: str) -> None:
    summary = page.locator("#new-key > summary")
    if page.locator("#new-key").get_attribute("open") is None:
        summary.click()
    page.get_by_label("What it is for").fill(name)
    page.get_by_label("Service, or *").fill(svc)
    page.get_by_role("button", name="Make the key").click()


def test_a_key_is_made_used_and_deleted_without_a_script(fleet: SteeredFleet, new_tab: Tabs):
    page = new_tab(java_script_enabled=False).page
    enter(page, fleet, "write")
    menu = page.get_by_role("navigation", name="Pages")
    expect(menu.get_by_role("link", name="Ping keys")).to_have_attribute("aria-current", "page")
    make(page, "nightly <b>", "backup")
    expect(page.locator(".said")).to_have_text("nightly <b>: the key is made.")
    address = page.get_by_label("The address").inner_text().strip()
    assert re.fullmatch(re.escape(fleet.url) + r"/ping/[0-9a-f-]{36}", address)
    row = page.locator("tr", has_text="nightly <b>")
    for part in ("backup", "by kim", "always", "not yet"):
        expect(row).to_contain_text(part)
    assert httpx.get(address, verify=PLAIN, timeout=30).text == "OK"
    page.goto(f"{fleet.url}/keys")
    assert address.rpartition("/")[2] not in page.content()
    expect(row).not_to_contain_text("not yet")
    row.locator("summary").click()
    page.get_by_role("button", name="Delete nightly <b> for good").click()
    expect(page.locator(".said")).to_contain_text("the key is deleted")
    expect(row).to_have_count(0)
    assert httpx.get(address, verify=PLAIN, timeout=30).status_code == 404
    with fleet.operator() as client:
        acts = [fields for _, fields in client.xrevrange("board:audit", count=4)]
    assert [(act["action"], act["outcome"]) for act in acts] == [
        ("revoke_key", "done"), ("revoke_key", "begun"), ("create_key", "done"), ("create_key", "begun"),
    ]  # fmt: skip
    assert {act["name"] for act in acts} == {"kim"}


def test_a_key_for_every_service_takes_the_right_to_add_one(fleet: SteeredFleet, new_tab: Tabs):
    page = new_tab().page
    enter(page, fleet, "write")
    make(page, "all", "*")
    expect(page.locator(".said.bad")).to_contain_text("the token lacks the scope seed")
    make(page, "wrong", "bakup")
    expect(page.locator(".said.bad")).to_contain_text("bakup")
    make(page, "hides", "healer")
    expect(page.locator(".said.bad")).to_contain_text("can't be pinged")
    page = new_tab().page
    enter(page, fleet, "write", "seed")
    make(page, "all", "*")
    address = page.get_by_label("The address").inner_text().strip()
    assert re.fullmatch(re.escape(fleet.url) + r"/ping/[A-Za-z0-9]{22}/SERVICE", address)
    assert httpx.get(address.replace("SERVICE", "backup"), verify=PLAIN, timeout=30).text == "OK"


def test_who_may_not_write_sees_no_key(fleet: SteeredFleet, new_tab: Tabs):
    fleet.shell.said("token", "create", "hidden", "--ping", "backup")
    page = new_tab().page
    page.goto(f"{fleet.url}/keys")
    expect(page.locator("main")).to_contain_text("sign in")
    expect(page.locator("main")).not_to_contain_text("hidden")
    enter(page, fleet, "read")
    expect(page.locator("main")).not_to_contain_text("hidden")
    menu = page.get_by_role("navigation", name="Pages")
    expect(menu.get_by_role("link", name="Ping keys")).to_have_count(0)
    foreign = httpx.post(f"{fleet.url}/keys", data={"name": "x", "svc": "*"}, verify=PLAIN, timeout=30)
    assert foreign.status_code == 403
