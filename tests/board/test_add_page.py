"""People add a job on the page of a real fleet with users, and see its first sign of life."""

import subprocess

import httpx
import pytest
from playwright.sync_api import Page, expect

from support.rig.browser import Tabs, needs_chromium, sign_in
from support.rig.steered_fleet import SteeredFleet

pytestmark = [needs_chromium, pytest.mark.live, pytest.mark.needs("curl", "sh")]


def enter(page: Page, fleet: SteeredFleet, *scopes: str) -> None:
    options = [word for scope in scopes for word in ("--scope", scope)]
    token = fleet.shell.said("token", "create", "kim", *options, "--by", "kim").strip()
    page.goto(f"{fleet.url}/truth/add")
    sign_in(page, token)


def test_a_job_is_added_by_a_form_and_its_first_ping_is_seen(fleet: SteeredFleet, new_tab: Tabs):
    page = new_tab().page
    enter(page, fleet, "seed", "write")
    page.get_by_role("navigation", name="Pages").get_by_role("link", name="Add", exact=True).click()
    page.get_by_label("Name").fill("nightly")
    page.get_by_label("When it runs").fill("0 3 * *")
    page.get_by_role("button", name="Show what it changes").click()
    expect(page.locator(".problems")).to_contain_text('"0 3 * *" is neither a cron expression of five fields')
    expect(page.get_by_label("Name")).to_have_value("nightly")
    page.get_by_label("When it runs").fill("0 3 * * *")
    page.get_by_role("button", name="Show what it changes").click()
    expect(page.locator(".changes")).to_have_text("+ nightly")
    expect(page.locator(".diff")).to_contain_text('"schedule": "0 3 * * *"')
    page.get_by_role("button", name="Seed it").click()
    expect(page.locator("#sign")).to_contain_text("Waiting for the first sign of life", timeout=20_000)
    curl = page.get_by_label("Lines for curl").inner_text()
    assert subprocess.run(["sh", "-c", curl], capture_output=True, text=True, check=True).stdout == "OK"
    expect(page.locator("#sign")).to_contain_text("The first sign of life has come", timeout=20_000)


def test_who_may_seed_but_not_write_sees_no_key_and_who_is_not_signed_in_sees_no_form(
    fleet: SteeredFleet, new_tab: Tabs
):
    page = new_tab().page
    page.goto(f"{fleet.url}/truth/add")
    expect(page.get_by_role("button", name="Show what it changes")).to_have_count(0)
    enter(page, fleet, "seed")
    page.goto(f"{fleet.url}/truth/added?svc=backup")
    expect(page.locator("main")).to_contain_text("A token with the scope write is shown its key here")
    assert "/ping/" not in page.content()


def test_a_form_of_another_site_or_without_the_scope_changes_nothing(fleet: SteeredFleet, new_tab: Tabs):
    tab = new_tab().page
    enter(tab, fleet, "write")
    expect(tab.get_by_role("button", name="Show what it changes")).to_have_count(0)
    cookies = {each["name"]: each["value"] for each in tab.context.cookies()}
    form = {"kind": "job", "name": "evil", "schedule": "@daily", "csrf": "x"}
    foreign = httpx.post(
        f"{fleet.url}/truth/add", data=form, cookies=cookies, headers={"Origin": "https://evil.example"}
    )
    assert foreign.status_code == 403
    csrf = tab.locator('input[name="csrf"]').first.input_value()
    own = httpx.post(
        f"{fleet.url}/truth/add", data=form | {"csrf": csrf}, cookies=cookies, headers={"Origin": fleet.url}
    )
    assert own.status_code == 403
    assert "lacks the scope seed" in own.text
