"""People add entries of the truth of a real fleet with users by forms, and change and remove them."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import httpx
import orjson
import pytest
from playwright.sync_api import Page, expect

from support.rig.browser import Tabs, needs_chromium, sign_in
from support.rig.steered_fleet import SteeredFleet
from support.waiting import until

pytestmark = [needs_chromium, pytest.mark.live, pytest.mark.needs("curl", "sh")]


def enter(page: Page, fleet: SteeredFleet, *scopes: str, path: str = "/truth/add") -> None:
    options = [word for scope in scopes for word in ("--scope", scope)]
    token = fleet.shell.said("token", "create", "kim", *options, "--by", "kim").strip()
    page.goto(f"{fleet.url}{path}")
    sign_in(page, token)


def add(page: Page, fleet: SteeredFleet, kind: str, name: str, **typed: str) -> None:
    """Adds an entry by the form, and waits until the board shows it."""
    page.goto(f"{fleet.url}/truth/add?kind={kind}")
    page.get_by_label("Name").fill(name)
    for label, text in typed.items():
        page.get_by_label(label.replace("_", " ")).fill(text)
    page.get_by_role("button", name="Show what it changes").click()
    page.get_by_role("button", name="Seed it").click()
    expect(page.locator("#sign")).to_be_visible(timeout=60_000)


def section(fleet: SteeredFleet, svc: str) -> dict[str, object]:
    return fleet.ask("GET", "/truth").json()["services"].get(svc, {})


def list_pings(fleet: SteeredFleet, svc: str) -> list[str]:
    """Returns the kinds of the pings of a service, the first one first."""
    with fleet.operator() as client:
        return [fields["kind"] for _, fields in client.xrange(f"pings:{svc}")]


def run_text(text: str, **env: str) -> None:
    """Runs lines as a person who pastes them does, with the commands of this environment."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    subprocess.run(["sh", "-c", text], env=os.environ | {"PATH": path} | env, check=True, timeout=120)


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


def test_an_entry_is_edited_paused_resumed_and_removed(fleet: SteeredFleet, new_tab: Tabs):
    page = new_tab().page
    enter(page, fleet, "seed", "write")
    add(page, fleet, "daemon", "report")
    fleet.shell.said("token", "create", "outside", "--ping", "report")
    page.goto(f"{fleet.url}/services/report")
    page.get_by_role("link", name="Edit, pause or remove it").click()
    page.get_by_label("Beats every").fill("-1")
    page.get_by_role("button", name="Show what it changes").click()
    expect(page.locator(".problems")).to_contain_text("services.report.heartbeat.interval_sec")
    page.get_by_label("Beats every").fill("45")
    page.get_by_label("What it is for").fill("Weekly <b>")
    page.get_by_label("Down after").fill("150")
    page.get_by_role("button", name="Show what it changes").click()
    expect(page.locator(".changes")).to_contain_text("~ report:")
    expect(page.locator(".diff")).to_contain_text('"description": "Weekly <b>"')
    assert section(fleet, "report") == {"heartbeat": {"interval_sec": 60, "timeout_sec": 180}}
    page.get_by_role("button", name="Seed it").click()
    expect(page.locator(".said")).to_contain_text("is in force.")
    expect(page.get_by_role("heading", name="report")).to_be_visible()
    assert section(fleet, "report") == {
        "heartbeat": {"interval_sec": 45, "timeout_sec": 150},
        "description": "Weekly <b>",
    }

    page.get_by_role("link", name="Edit, pause or remove it").click()
    page.get_by_role("button", name="Pause …").click()
    expect(page.locator(".changes")).to_contain_text("heartbeat.monitored true → false")
    page.get_by_role("button", name="Seed it").click()
    expect(page.locator(".head .st")).to_have_text("paused", timeout=60_000)
    status = orjson.loads(fleet.shell.said("status", "--json"))
    (row,) = [each for each in status["services"] if each["svc"] == "report"]
    assert (row["verdict"], row["paused"]) == ("unknown", True)
    assert "1 paused" in fleet.shell.said("status").splitlines()[0]
    page.goto(f"{fleet.url}/")
    expect(page.locator('#rows [data-svc="report"] .st')).to_have_text("paused")
    expect(page.locator("#headline")).to_contain_text("1 paused")

    page.goto(f"{fleet.url}/truth/entry?name=report")
    page.get_by_role("button", name="Resume …").click()
    page.get_by_role("button", name="Seed it").click()
    expect(page.locator(".said")).to_contain_text("is in force.")
    page.goto(f"{fleet.url}/truth/entry?name=report")
    page.get_by_role("button", name="Remove …").click()
    expect(page.locator(".lost")).to_contain_text("Its key for pings stays")
    assert section(fleet, "report") != {}
    page.get_by_role("button", name="Remove report").click()
    expect(page.locator(".said")).to_contain_text("is in force.")
    assert section(fleet, "report") == {}
    assert httpx.get(f"{fleet.url}/truth/entry?name=report").status_code == 404
    with fleet.operator() as client:
        audited = [fields for _, fields in client.xrevrange("board:audit", count=10)]
    assert any(each["outcome"] == "done" and "by kim" in each["detail"] for each in audited)


def test_what_others_change_meanwhile_is_neither_undone_nor_overwritten(fleet: SteeredFleet, new_tab: Tabs):
    page, other = new_tab().page, new_tab().page
    for tab in page, other:
        enter(tab, fleet, "seed", "write")
    add(page, fleet, "daemon", "first")
    add(page, fleet, "daemon", "second")

    def edit(tab: Page, svc: str, text: str) -> None:
        tab.goto(f"{fleet.url}/truth/entry?name={svc}")
        tab.get_by_label("What it is for").fill(text)
        tab.get_by_role("button", name="Show what it changes").click()

    def seed(tab: Page) -> None:
        tab.get_by_role("button", name="Seed it").click()

    edit(page, "first", "mine")
    edit(other, "second", "theirs")
    seed(other)
    expect(other.locator(".said")).to_contain_text("is in force.")
    seed(page)
    expect(page.locator(".said.bad")).to_contain_text("The truth was changed meanwhile")
    expect(page.locator(".changes li")).to_have_count(1)
    assert "description" not in section(fleet, "first")
    seed(page)
    expect(page.locator(".said")).to_contain_text("is in force.")
    assert [section(fleet, svc).get("description") for svc in ("first", "second")] == ["mine", "theirs"]

    page.goto(f"{fleet.url}/truth/entry?name=first")
    edit(other, "first", "new")
    seed(other)
    expect(other.locator(".said")).to_contain_text("is in force.")
    page.get_by_label("What it is for").fill("old")
    page.get_by_role("button", name="Show what it changes").click()
    expect(page.locator(".said.bad")).to_contain_text("It was changed meanwhile")
    expect(page.get_by_label("What it is for")).to_have_value("new")
    assert section(fleet, "first").get("description") == "new"


def test_the_lines_for_another_machine_are_run_and_each_is_a_sign_of_life(
    fleet: SteeredFleet, new_tab: Tabs, tmp_path: Path
):
    page = new_tab().page
    enter(page, fleet, "seed", "write", path="/truth/add?kind=elsewhere")
    url = (fleet.folder / ".marketswarm/urls/operator/system-redis").read_text("utf-8").strip()

    def read_lines() -> dict[str, str]:
        blocks = page.locator("pre[aria-label^='Lines for ']")
        texts = {str(each.get_attribute("aria-label")): each.inner_text() for each in blocks.all()}
        return {
            name.removeprefix("Lines for "): text.replace("redis://system-redis:6379", shlex.quote(url))
            for name, text in texts.items()
        }

    def follow(svc: str, lines: dict[str, str], *names: str) -> list[str]:
        """Runs lines in turn; returns the kinds of the pings that they made."""
        before = len(list_pings(fleet, svc))
        for name in names:
            if name == "Python":
                subprocess.run([sys.executable, "-c", lines[name]], check=True, timeout=60)
            else:
                run_text(lines[name])
        return list_pings(fleet, svc)[before:]

    add(page, fleet, "elsewhere", "remote", When_it_runs="0 3 * * *")
    expect(page.locator("main")).to_contain_text("another one does not reach it")
    lines = read_lines()
    ran = lines["cron"].removeprefix("0 3 * * *").replace("/usr/local/bin/remote", "(exit 3)")
    stop = lines["systemd"].partition("ExecStopPost=")[2]
    lines |= {
        "cron": ran,
        "marketswarm exec": lines["marketswarm exec"].replace("/usr/local/bin/remote", "true"),
    }
    assert follow("remote", lines, "curl", "cron", "Python", "marketswarm exec") == [
        "success",
        "fail",
        "success",
        "success",
    ]
    before = len(list_pings(fleet, "remote"))
    for result in "success", "exit-code":
        run_text(stop, SERVICE_RESULT=result)
    assert list_pings(fleet, "remote")[before:] == ["success", "fail"]

    add(page, fleet, "elsewhere", "sleeper", Beats_every="30")
    lines = read_lines()
    lines["cron"] = lines["cron"].removeprefix("* * * * *").replace("pgrep -x sleeper", "true")
    lines["systemd"] = lines["systemd"].partition("ExecStart=")[2]
    assert follow("sleeper", lines, "curl", "cron", "Python", "systemd") == ["success"] * 4
    beat = lines["marketswarm beat"]
    with fleet.operator() as client:
        line = beat.replace("\nmarketswarm", "\nexec marketswarm")  # so that the signal below ends it
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        beating = subprocess.Popen(["sh", "-c", line], env=os.environ | {"PATH": path}, cwd=tmp_path)
        try:
            until(
                lambda: "via" not in orjson.loads(client.get("beat:sleeper")),  # a ping's beat has it
                what="a beat of the line for the bus",
                within=60,
            )
        finally:
            beating.terminate()
            beating.wait(60)
