"""An operator's day, and a night on call: what the pages say is typed, read and clicked, on one fleet."""

import os
import re
import shlex
import signal
from itertools import pairwise
from typing import Any

import httpx
import orjson
import pytest
from playwright.sync_api import Page, expect

from support.pages import ROOT, blocks
from support.rig.browser import PHONE, Tabs, needs_chromium, sign_in
from support.rig.process import PLAIN
from support.rig.web_site import Page as WebPage
from support.rig.web_site import Site
from support.scenes.walk import Desk, find_block, find_line, look, open_desk
from support.waiting import until

pytestmark = [
    needs_chromium,
    pytest.mark.live,
    pytest.mark.needs("curl", "openssl", "sh"),
    pytest.mark.timeout(600),  # a whole story on a busy machine
]
ADDING, BEATS, PINGS = "docs/adding.md", "docs/beats-from-anywhere.md", "docs/pings.md"
NIGHT, MEDIC, BOARD = "docs/at-3am.md", "docs/services/medic.md", "docs/services/board.md"
FAILED = re.compile(r"its command ended with exit code 3 after [\d.]+ s: disk full on /backup")
QUIET = "Nothing is down, nothing is degraded, and no rule holds."
JOB = "#!/bin/sh\necho '{said}'\nexit {code}\n"


def make_truth() -> bytes:
    """Return the fleet that the page of the medic tries it on: massive alone is missed after seconds.

    The others have time for their beats on a busy machine, and what is healed is over soon.
    """
    truth = orjson.loads((ROOT / "examples/healing.json").read_bytes())
    services = truth["services"]
    for svc in services.keys() - {"massive", "healer"}:
        services[svc]["heartbeat"]["timeout_sec"] = 30
    services["massive"]["heartbeat"]["timeout_sec"] = 10
    services["healer"]["threshold"]["heartbeat_cadence"] = 30
    services["medic"]["settings"]["stable_sec"] = 3
    return orjson.dumps(truth, option=orjson.OPT_INDENT_2)


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    with open_desk(tmp_path_factory.mktemp("walks"), make_truth()) as desk:
        desk.start()
        yield desk


# -- the operator


def test_an_operator_adds_a_job_learns_of_its_failure_and_takes_it_out_again(desk: Desk, new_tab: Tabs):
    assert "\nall 9 up\n" in find_block("README.md", "text", "$ marketswarm status\n")
    until(lambda: "all 9 up" in desk.type("marketswarm status"), what="what README shows")
    shipped = read_truth(desk)
    page = new_tab().page
    add_a_job(desk)
    let_it_fail(desk)
    read_what_happened(desk, page)
    see_to_it(desk, page)
    let_it_succeed(desk, page)
    token = type_all_that_the_page_shows(desk)
    ping_it_by_a_key(desk)
    add_a_web_page(desk, page, token)
    take_all_of_it_out(desk, shipped)


def add_a_job(desk: Desk) -> None:
    """Add it, and run the line for curl that is printed: its first sign of life is seen."""
    words = shlex.split(find_line(ADDING, "add job backup"))[1:]
    with desk.shell.start(*words, "--yes", "--wait", "60s") as command:
        assert command.stdout is not None
        lines = []
        for line in command.stdout:
            lines.append(line.rstrip("\n"))
            if line.startswith("waiting for"):
                break
        assert desk.type(lines[lines.index("curl:") + 1].strip()) == "OK"
        assert "✓ first sign of life of backup" in command.stdout.readline()
        assert command.wait(60) == 0
    assert desk.verdict("backup") == "up"


def run_job(desk: Desk, said: str, code: int) -> None:
    """Run a job under the command that the page shows for it; its exit code is that of the job."""
    job = desk.folder / "backup.sh"
    job.write_text(JOB.format(said=said, code=code), encoding="utf-8")
    job.chmod(0o700)
    assert desk.ask(find_line(BEATS, "exec --svc backup", "./backup.sh")).returncode == code


def let_it_fail(desk: Desk) -> None:
    run_job(desk, "disk full on /backup", 3)
    until(lambda: desk.verdict("backup") == "down", what="the failure")
    said = " ".join(desk.type(find_line(NIGHT, "marketswarm status")).split())
    assert "failed since" in said
    assert FAILED.search(said)
    (last, _first) = desk.type(find_line(BEATS, "marketswarm runs backup")).splitlines()
    assert re.fullmatch(r"1 +\S+ +failed, exit 3 .*  disk full on /backup", last)
    assert desk.type(find_line(BEATS, "marketswarm runs backup --output 1")) == "disk full on /backup\n"


def read_what_happened(desk: Desk, page: Page) -> None:
    """Follow the message to the page of the job, and from there to what is wrong now."""
    message = desk.read("backup failed")
    assert FAILED.search(message.text)
    page.goto(message.find_link("Open backup"))
    expect(page.locator("main")).to_contain_text("disk full on /backup")
    expect(page.locator("main .head")).to_contain_text("down")
    look(page)
    page.goto(f"{desk.url}/incidents")
    card = page.locator(".card", has_text="backup")
    for part in ("What happened", "What is done", "What to do next", "Who was told"):
        expect(card).to_contain_text(part)
    expect(card).to_contain_text(FAILED)
    expect(card).to_contain_text("webhook, at")
    look(page)


def see_to_it(desk: Desk, page: Page) -> None:
    """Press the signed link: opening it changes nothing, the button does it once."""
    link = desk.read("backup failed").find_link("I see to it")
    for _ in range(2):
        page.goto(link)
        expect(page.locator("h1")).to_have_text("I see to it: backup")
    assert desk.get("/api/v1/services/backup").json()["acked_by"] is None
    look(page)
    page.get_by_role("button", name="I see to it").click()
    expect(page.get_by_role("status")).to_have_text("backup: link of webhook sees to it")
    again = httpx.post(link, timeout=15, verify=PLAIN)
    assert "This was done already" in again.text
    page.goto(f"{desk.url}/incidents")
    expect(page.locator(".card", has_text="backup")).to_contain_text("acknowledged by link of webhook")

    def list_steps() -> set[tuple[str, str]]:
        (record,) = orjson.loads(desk.type("marketswarm incidents --svc backup --json"))
        return {(step["what"], step["text"]) for step in record["timeline"]}

    wanted = {("told", "to webhook"), ("acked", "by link of webhook")}
    until(lambda: list_steps() >= wanted, what="who was told, and who saw to it, on record")


def let_it_succeed(desk: Desk, page: Page) -> None:
    run_job(desk, "1204 files", 0)
    message = desk.read("backup is up again")
    assert "I see to it" not in message.text
    until(lambda: desk.verdict("backup") == "up", what="the end")
    page.goto(f"{desk.url}/incidents")
    expect(page.locator("main")).to_contain_text(QUIET, timeout=60_000)


def type_all_that_the_page_shows(desk: Desk) -> str:
    """Type each other command of the page, in its order; return the token that one of them prints."""
    token = ""
    with Site({"/health": WebPage(b"ok")}) as site:
        for block in blocks(ROOT / ADDING, "bash"):
            for line in block.splitlines():
                words = shlex.split(line.replace("https://shop.example/health", site.url("/health")))[1:]
                if words[:3] == ["add", "job", "backup"]:
                    continue
                is_asked = words[0] != "token" and "--yes" not in words
                is_awaited = words[0] in ("add", "watch") and "--wait" not in words
                options = ["--yes"] * is_asked + ["--no-wait"] * is_awaited
                patience = ["1s" if before == "--wait" else word for before, word in pairwise(["", *words])]
                done = desk.shell(*patience, *options)
                assert done.returncode == (1 if "--wait" in words else 0), f"{line}: {done.stderr}"
                token = done.stdout.strip() if words[0] == "token" else token
                if words[0] == "pause":
                    assert read_truth(desk)["services"]["backup"]["heartbeat"]["monitored"] is False
    services = read_truth(desk)["services"]
    assert services["backup"]["heartbeat"] == {
        "schedule": "0 3 * * *", "time_zone": "Europe/Berlin", "grace_sec": 1800,
    }  # fmt: skip
    assert services.keys() >= {"backup", "worker", "report", "nightly", "queue"}
    assert desk.type("marketswarm truth show") == (desk.folder / "truth.json").read_text(encoding="utf-8")
    return token


def read_truth(desk: Desk) -> dict[str, Any]:
    truth: dict[str, Any] = orjson.loads((desk.folder / "truth.json").read_bytes())
    return truth


def ping_it_by_a_key(desk: Desk) -> None:
    """Make a key of its own, ping with it, and revoke it: then it is refused."""
    script = find_block(PINGS, "bash", "UUID=$(").replace("--ping rss_agg", "--ping backup")
    said = desk.type(f'{script}\necho "$UUID"').splitlines()
    assert said[0].startswith("OK")
    rows = orjson.loads(desk.type(f"{find_line(PINGS, 'marketswarm token list')} --json"))
    assert rows[-1]["name"] == "nightly"
    desk.type(find_line(PINGS, "token revoke").replace("1f0c3a9e", rows[-1]["id"]))
    assert desk.get(f"/ping/{said[-1]}").status_code == 404


def add_a_web_page(desk: Desk, page: Page, token: str) -> None:
    """Add it by the form of the board, with the token that the page makes, and take over what it changed."""
    with Site({"/health": WebPage(b"ok")}) as site:
        page.goto(f"{desk.url}/truth/add?kind=page")
        sign_in(page, token)
        page.goto(f"{desk.url}/truth/add?kind=page")
        page.get_by_label("Name").fill("door")
        page.get_by_label("Address").fill(site.url("/health"))
        page.get_by_label("Text that must be in it").fill("ok")
        page.get_by_role("button", name="Show what it changes").click()
        expect(page.locator(".diff")).to_contain_text(site.url("/health"))
        page.get_by_role("button", name="Seed it").click()
        until(lambda: site.seen, what="a probe")
    refused = desk.ask("marketswarm remove massive/door --yes")
    assert refused.returncode == 2
    (take_over,) = re.findall(r"`(marketswarm truth show > \S+)`", refused.stderr)
    desk.type(take_over)


def take_all_of_it_out(desk: Desk, shipped: dict[str, Any]) -> None:
    """Remove what was added, until the truth is the shipped one."""
    services = read_truth(desk)["services"]
    targets = [each["name"] for each in services["massive"]["settings"]["targets"]]
    known = [each["name"] for each in shipped["services"]["massive"]["settings"]["targets"]]
    added = [name for name in services if name not in shipped["services"]]
    for name in [*(f"massive/{each}" for each in targets if each not in known), *added]:
        desk.type(f"{find_line(ADDING, 'remove massive/shop').replace('massive/shop', name)} --yes")
    assert read_truth(desk) == shipped


# -- on call


def test_at_3_am_a_message_leads_to_the_proposal_that_heals_the_service(desk: Desk, new_tab: Tabs):
    """What the page of the medic says of massive: it hangs, and a restart is proposed."""
    assert "examples/healing.json" in find_block(MEDIC, "bash", "marketswarm medic status")
    before, quiet = len(desk.messages()), read_headline(desk)
    page = new_tab(viewport=PHONE).page
    os.kill(desk.find_process("massive"), signal.SIGSTOP)
    message = desk.read("Quiet for 2 h", before)
    page.goto(message.find_link("Open [a-z]+"))
    expect(page.locator("main")).to_contain_text("massive")
    expect(page.locator("main .st.down").first).to_be_visible()
    keep_it_quiet(desk, page, message.find_link("Quiet for 2 h"))
    approve_what_is_proposed(desk, page)
    read_how_it_went(desk, page, before)
    send_a_test(desk, page)
    assert "down" not in quiet
    until(lambda: read_headline(desk) == quiet, what="all to be as before")


def read_headline(desk: Desk) -> str:
    return desk.type(find_line(NIGHT, "marketswarm status")).splitlines()[0]


def read_medic(desk: Desk) -> str:
    """Return the first line of what the medic says, the one that matters most; no cell below is cut off."""
    said = desk.type(find_line(MEDIC, "marketswarm medic status"))
    assert "…" not in said
    return said.splitlines()[0]


def keep_it_quiet(desk: Desk, page: Page, link: str) -> None:
    """Press the signed link, once; what is quiet is left alone by the medic, too, and the page says so."""
    page.goto(link)
    expect(page.locator("h1")).to_have_text("Quiet for 2 h: massive")
    expect(page.locator("main")).to_contain_text("the medic leaves it alone")
    assert orjson.loads(desk.type("marketswarm silences --json")) == []
    page.get_by_role("button", name="Quiet for 2 h").click()
    expect(page.get_by_role("status")).to_contain_text("No messages about it until")
    assert "This was done already" in httpx.post(link, timeout=15, verify=PLAIN).text
    until(
        lambda: read_medic(desk) == "nothing is done about massive (the service is silenced)",
        what="the medic to see it",
    )
    page.goto(f"{desk.url}/incidents")
    expect(page.locator(".card", has_text="massive")).to_contain_text("end its silence", timeout=60_000)


def approve_what_is_proposed(desk: Desk, page: Page) -> None:
    token = desk.type(find_line(BOARD, "token create kim", "--scope write")).strip()
    sign_in(page, token)
    page.get_by_role("button", name="End the silence of massive").click()
    approve = page.get_by_role("button", name="Approve: restart massive")
    expect(approve).to_be_visible(timeout=60_000)
    assert read_medic(desk) == "waits for your approval: massive"
    look(page)
    approve.click()
    expect(page.locator(".said")).to_contain_text("massive")


def read_how_it_went(desk: Desk, page: Page, before: int) -> None:
    """Read the end in a message, and the record in the terminal and on the board; then all is quiet."""
    desk.read("massive is up again", before)

    def find_healed() -> str | None:
        rows = orjson.loads(desk.type(f"{find_line(MEDIC, 'marketswarm incidents')} --json"))
        return next(
            (row["id"] for row in rows if row["svc"] == "massive" and row["resolution"] == "healed"), None
        )

    ident = until(find_healed, what="the end on record")
    example = "rss_agg.1795400736319"
    post_mortem = desk.type(find_line(MEDIC, f"marketswarm incident {example}").replace(example, ident))
    for step in ("| told | to webhook |", "| told | proposed/massive, to webhook |", "| by kim |"):
        assert step in post_mortem
    page.goto(f"{desk.url}/incidents/past")
    page.locator("tr", has_text="massive").first.get_by_role("link").first.click()
    expect(page.locator("main")).to_contain_text("by kim")
    look(page)
    page.goto(f"{desk.url}/incidents")
    expect(page.locator("main")).to_contain_text(QUIET, timeout=60_000)


def send_a_test(desk: Desk, page: Page) -> None:
    before = len(desk.messages())
    page.goto(f"{desk.url}/notifications")
    page.get_by_role("button", name="Test webhook").click()
    expect(page.locator(".said")).to_contain_text("204")
    desk.read("This is a test", before)
    expect(page.locator("main")).to_contain_text("Every message that was sent was delivered.")
    look(page)
