"""A real medic, its record on the board, and a person who approves what it proposes; buses have users."""

import os
import signal

import pytest
from playwright.sync_api import expect

from marketswarm.operator.healing import DiagnosisRecord, make_diagnosis_field
from support.rig.browser import PHONE, Tabs, find_violations, needs_chromium, sign_in
from support.rig.process import descendants
from support.rig.steered_fleet import BEATS, TRUTH, run_steered_fleet
from support.waiting import PATIENT_SEC, until

pytestmark = [needs_chromium, pytest.mark.live]
QUICK = {
    "mode": "propose",
    "every_sec": 0.2,
    "wait_sec": 0.2,
    "stable_sec": 1,
    "start_grace_sec": 0.1,
    "fuse": {"down_share": 0.9},
    "rules_every_sec": 1,
    "rules": {"some_memory": {"metric": "host_memory", "above": 0}},  # holds on every machine
}
SERVICES = {
    **TRUTH["services"],
    "mesh": {"heartbeat": BEATS},
    "medic": {"heartbeat": BEATS, "settings": QUICK},
}


@pytest.fixture(scope="module")
def healed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("healed")
    with run_steered_fleet(folder, {**TRUTH, "services": SERVICES}) as fleet:
        until(lambda: fleet.state("mesh") == fleet.state("medic") == "up", PATIENT_SEC, what="all to be up")
        yield fleet


def freeze(fleet, svc):
    """Freeze a service's process, and return the id of the proposal to restart it."""
    pid = next(pid for pid, line in descendants(fleet.up.pid) if f"services.{svc}" in line)
    os.kill(pid, signal.SIGSTOP)

    def find_proposal():
        proposals = fleet.ask("GET", "/monitor/status").json()["proposals"]
        return next((each["id"] for each in proposals if each["svc"] == svc), None)

    until(find_proposal, PATIENT_SEC, what=lambda: fleet.ask("GET", "/monitor/status").text)
    return find_proposal()


def newest(fleet, svc):
    found = fleet.ask("GET", f"/monitor/incidents?svc={svc}").json()["incidents"]
    return found[0] if found else None


def test_a_program_approves_a_proposal_and_reads_what_became_of_it(healed):
    before = healed.ask("GET", "/monitor/status").json()
    assert (before["mode"], before["paused"], before["state"], before["away"]) == (
        "propose",
        False,
        "up",
        None,
    )
    ident = freeze(healed, "mesh")
    assert newest(healed, "mesh")["proposal"] == ident
    answer = healed.ask("POST", f"/monitor/proposals/{ident}/approve", {"by": "kim"})
    assert answer.status_code == 200, answer.text
    assert answer.json() == {"id": ident, "svc": "mesh", "remedy": "restart", "by": "kim"}
    until(lambda: newest(healed, "mesh")["resolution_status"] == "healed", PATIENT_SEC, what="the end")
    found = newest(healed, "mesh")
    assert (found["container_name"], found["issue_type"], found["healing_attempts"]) == ("mesh", "silent", 1)
    assert (found["healing_strategies_tried"], found["resolution_details"]) == (
        ["restart"],
        "verified restart",
    )
    assert found["resolution_time_seconds"] > 0
    timeline = healed.ask("GET", f"/monitor/incidents/{found['id']}").json()["timeline"]
    assert "approved restart: by kim" in [each["text"] for each in timeline]
    stats = healed.ask("GET", "/alerts/stats?hours=1").json()  # of all tests here, whatever their order
    assert ("heartbeat_miss", "warning") in [(each["type"], each["severity"]) for each in stats["alerts"]]
    assert stats["incidents"]["by_status"]["healed"] >= 1
    (restart,) = (each for each in stats["remedies"] if each["remedy"] == "restart")
    assert restart["attempts"] == restart["verified"] >= 1
    assert restart["success"] == 1.0
    assert healed.ask("GET", "/monitor/incidents/none").status_code == 404
    assert healed.ask("POST", f"/monitor/proposals/{ident}/approve").status_code == 404
    assert healed.refused() == {}


def test_a_person_approves_it_on_the_page_without_a_script(healed, new_tab: Tabs):
    token = healed.shell.said("token", "create", "pages", "--scope", "write", "--by", "kim").strip()
    page = new_tab(java_script_enabled=False).page
    ident = freeze(healed, "mesh")
    page.goto(f"{healed.url}/incidents")
    card = page.locator(".card", has_text="mesh")
    expect(card).to_contain_text("The medic proposes: restart it")
    expect(card.get_by_text(f"marketswarm medic approve {ident}", exact=True)).to_be_visible()
    expect(page.get_by_text("Nothing is down")).to_have_count(0)
    page.get_by_role("link", name="Past incidents").click()
    expect(page.get_by_text("1 waits for an approval")).to_be_visible()
    assert page.get_by_text(ident).count() == 0
    page.goto(f"{healed.url}/incidents")
    expect(card).to_contain_text("webhook, at")  # who was told
    if folder := os.environ.get("SHOTS"):
        page.screenshot(path=f"{folder}/proposal.png", full_page=True)
    sign_in(page, token)
    page.locator(f"#approve-by-{ident}").fill("ann")
    page.get_by_role("button", name="Approve: restart mesh").click()
    expect(page.get_by_text("Approved: restart mesh.")).to_be_visible()
    assert page.url.startswith(f"{healed.url}/incidents?said=")
    until(lambda: newest(healed, "mesh")["resolution_status"] == "healed", PATIENT_SEC, what="the end")
    page.goto(f"{healed.url}/incidents/past")
    row = page.locator("tr", has_text="healed by the medic").first
    expect(row).to_contain_text("verified restart")
    row.get_by_role("link").first.click()
    expect(page.get_by_text("Approved: restart it by ann")).to_be_visible()
    assert healed.refused() == {}


def test_a_rule_that_holds_is_a_card_while_nothing_is_down(healed, new_tab: Tabs):
    """The board reads the states of the rules with the rights of its own user."""
    page = new_tab(viewport=PHONE).open(f"{healed.url}/incidents")
    card = page.locator(".card", has_text="rule some_memory")
    expect(card).to_contain_text("the memory in use")
    expect(card).to_contain_text("The medic has people told of it")
    expect(card).to_contain_text("webhook, at")
    expect(page.get_by_text("Nothing is")).to_have_count(0)
    assert find_violations(page) == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert healed.refused() == {}


def test_a_diagnosis_is_shown_with_its_patch_as_text(healed, new_tab: Tabs):
    if newest(healed, "mesh") is None:
        freeze(healed, "mesh")
    ident = newest(healed, "mesh")["id"]
    text, patch = "The disk is full.\n<script>alert(1)</script>", "--- a/x\n+++ b/x\n-\told\n+\tnew"
    record = DiagnosisRecord(
        svc="mesh",
        incident=ident,
        ts=1.0,
        reason="escalated",
        text=text,
        remedies=("restart",),
        patch=patch,
        altered=True,
        model="small",
    )
    with healed.connect("medic") as medic:
        medic.hset("medic:state", make_diagnosis_field("mesh"), record.encode())
    (found,) = healed.ask("GET", f"/monitor/incidents/{ident}").json()["diagnoses"]
    assert found == {
        "ts": 1.0,
        "reason": "escalated",
        "text": text,
        "remedies": ["restart"],
        "patch": patch,
        "model": "small",
        "altered": True,
        "command": f"marketswarm medic patch {ident}",
    }
    page = new_tab().page
    page.goto(f"{healed.url}/incidents/past/{ident}")
    expect(page.get_by_label("The diagnosis")).to_have_text(text)
    expect(page.get_by_label("The patch")).to_have_text(patch)
    expect(page.get_by_text("It advises restart.")).to_be_visible()
    expect(page.get_by_text("which is altered: something was removed")).to_be_visible()
    expect(page.get_by_text(found["command"], exact=True)).to_be_visible()
    if folder := os.environ.get("SHOTS"):
        page.screenshot(path=f"{folder}/diagnosis.png")
    with healed.connect("medic") as medic:
        medic.hset("medic:state", make_diagnosis_field("mesh"), b"junk")
    assert healed.ask("GET", f"/monitor/incidents/{ident}").json()["diagnoses"] == []
    assert healed.refused() == {}
