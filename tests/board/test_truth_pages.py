"""People edit the truth of a real fleet with users, in a browser, and roll it back."""

from pathlib import Path

import httpx
import orjson
import pytest
from playwright.sync_api import Page, Route, expect

from support.rig.browser import PHONE, Tabs, needs_chromium, sign_in
from support.rig.steered_fleet import SteeredFleet
from support.waiting import until

pytestmark = [needs_chromium, pytest.mark.live]


def enter(page: Page, fleet: SteeredFleet, path: str, *scopes: str) -> None:
    """Signs in from a page with a new token, and goes back to that page."""
    options = [word for scope in scopes for word in ("--scope", scope)]
    token = fleet.shell.said("token", "create", "kim", *options, "--by", "kim").strip()
    page.goto(f"{fleet.url}{path}")
    sign_in(page, token)


def revision(fleet: SteeredFleet) -> int:
    return int(orjson.loads(fleet.shell.said("truth", "history", "--json"))["revisions"][0]["revision"])


def description(fleet: SteeredFleet) -> str | None:
    found = fleet.ask("GET", "/truth").json()["services"]["backup"].get("description")
    return None if found is None else str(found)


def change(text: str, description: str) -> str:
    document = orjson.loads(text)
    document["services"]["backup"]["description"] = description
    return orjson.dumps(document, option=orjson.OPT_INDENT_2).decode() + "\n"


def test_errors_are_shown_while_somebody_types_then_the_difference_then_it_converges(
    fleet: SteeredFleet, new_tab: Tabs, tmp_path: Path
):
    page, before = new_tab().page, revision(fleet)
    enter(page, fleet, "/truth", "seed")
    page.get_by_role("link", name="Edit it").click()
    field = page.get_by_label("The document")
    text = field.input_value()
    wrong = change(text, "Nightly").replace('"interval_sec": 0.5', '"interval_sec": "soon"', 1)
    field.fill(wrong)
    problem = page.locator("#problems li").first
    expect(problem).to_contain_text("interval_sec")
    expect(problem).to_contain_text('"soon" is not a positive number')
    line = wrong[: wrong.index("soon")].count("\n") + 1
    problem.get_by_role("button", name=f"line {line}", exact=True).click()
    chosen = field.evaluate("one => one.value.slice(one.selectionStart, one.selectionEnd)")
    assert "soon" in chosen
    page.get_by_role("button", name="Check and compare").click()
    expect(page.locator(".said.bad")).to_contain_text("problem")
    expect(page.get_by_label("The document")).to_have_value(wrong)
    assert revision(fleet) == before

    page.get_by_label("The document").fill(change(text, "Nightly <b>backup</b>"))
    expect(page.locator("#verdict")).to_contain_text("Valid. It changes: ~ backup: description")
    page.get_by_role("button", name="Check and compare").click()
    expect(page.locator(".changes")).to_contain_text("~ backup: description")
    expect(page.locator(".diff")).to_contain_text("Nightly <b>backup</b>")
    page.get_by_role("button", name="Go on editing").click()
    page.get_by_role("button", name="Check and compare").click()
    page.get_by_label("as", exact=True).fill("lena")
    page.get_by_role("button", name="Seed it").click()
    expect(page.locator(".said")).to_have_text(f"Revision {before + 1} is in force.")
    expect(page.locator("#applied")).to_contain_text(
        f"3 of 3 services apply revision {before + 1}", timeout=20_000
    )
    assert description(fleet) == "Nightly <b>backup</b>"
    expect(page.locator("tbody tr").first).to_contain_text("lena@board")
    assert fleet.refused() == {}


def test_what_was_typed_before_the_script_came_is_checked_when_it_comes(fleet: SteeredFleet, new_tab: Tabs):
    page, held = new_tab().page, list[Route]()
    enter(page, fleet, "/truth", "seed")
    page.route("**/truth.js", lambda route: held.append(route))
    page.goto(f"{fleet.url}/truth/edit", wait_until="commit")
    field = page.get_by_label("The document")
    field.fill("{")
    held[0].continue_()
    expect(page.locator("#problems li")).to_contain_text("not JSON")


def test_without_a_script_it_is_rolled_back_after_the_difference_was_shown(
    fleet: SteeredFleet, new_tab: Tabs
):
    page = new_tab(java_script_enabled=False, viewport=PHONE).page
    enter(page, fleet, "/truth", "seed")
    page.goto(f"{fleet.url}/truth/edit")
    field = page.get_by_label("The document")
    text, number = field.input_value(), revision(fleet)
    field.fill(text.replace("{", "", 1))
    page.get_by_role("button", name="Check and compare").click()
    expect(page.locator("#problems li")).to_contain_text("not JSON")
    page.get_by_label("The document").fill(change(text, "Weekly"))
    page.get_by_role("button", name="Check and compare").click()
    page.get_by_role("button", name="Seed it").click()
    expect(page.locator(".said")).to_have_text(f"Revision {number + 1} is in force.")
    page.get_by_role("link", name=f"Roll back to {number}", exact=True).click()
    expect(page.locator(".diff del", has_text="Weekly")).to_be_visible()
    page.get_by_role("button", name="Roll back").click()
    expect(page.locator(".said")).to_have_text(f"Revision {number + 2} is in force.")
    assert description(fleet) != "Weekly"


def test_what_somebody_else_seeded_meanwhile_is_not_lost(fleet: SteeredFleet, new_tab: Tabs):
    first, second = new_tab().page, new_tab().page
    for page in (first, second):
        enter(page, fleet, "/truth", "seed")
        page.goto(f"{fleet.url}/truth/edit")
        field = page.get_by_label("The document")
        field.fill(change(field.input_value(), "by the first" if page is first else "by the second"))
        page.get_by_role("button", name="Check and compare").click()
        expect(page.locator(".changes")).to_be_visible()
    first.get_by_role("button", name="Seed it").click()
    expect(first.locator(".said")).to_contain_text("is in force")
    second.get_by_role("button", name="Seed it").click()
    expect(second.locator(".said.bad")).to_contain_text("The truth was changed meanwhile")
    expect(second.locator(".diff del", has_text="by the first")).to_be_visible()
    assert description(fleet) == "by the first"
    second.get_by_role("button", name="Seed it").click()
    expect(second.locator(".said")).to_contain_text("is in force")
    until(lambda: description(fleet) == "by the second", what="the second document")


def test_a_token_without_the_scope_sees_no_document_to_edit_and_seeds_nothing(
    fleet: SteeredFleet, new_tab: Tabs
):
    page, before = new_tab().page, revision(fleet)
    enter(page, fleet, "/incidents", "write", "read")
    page.goto(f"{fleet.url}/truth/edit")
    assert page.get_by_label("The document").count() == 0
    (cookie,) = page.context.cookies()
    csrf = page.locator("input[name=csrf]").first.get_attribute("value")
    current = fleet.ask("GET", "/truth")
    answer = httpx.post(
        f"{fleet.url}/truth/seed",
        data={"csrf": csrf, "text": change(current.text, "x"), "base": current.headers["etag"].strip('"')},
        cookies={cookie["name"]: cookie["value"]},
        headers={"Origin": fleet.url},
    )
    assert (answer.status_code, "lacks the scope seed" in answer.text) == (403, True)
    assert revision(fleet) == before
