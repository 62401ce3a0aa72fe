"""Holds docs/at-3am.md to the words that messages and commands really use."""

import re
import shlex

from marketswarm.channels import Severity, make_event_message
from marketswarm.cli.app import load_all_commands
from marketswarm.cli.status import describe_leader
from marketswarm.event import Kind, encode_event
from marketswarm.exit import Code
from marketswarm.status.fleet_state import Leader
from marketswarm.status.service_rows import ServiceState
from notifier.channel_pool import make_new_address_message, make_unopened_channel_message
from notifier.dispatcher import make_broken_channel_message
from notifier.router.incident import Notice, NoticeKind
from notifier.router.render import render_message
from support.channel_messages import AT, event_of
from support.pages import ROOT, table

PAGE = "docs/at-3am.md"
TEXT = (ROOT / PAGE).read_text(encoding="utf-8")
PREFIXES = {
    Kind.PROBE_MISS: "massive/",
    **dict.fromkeys((Kind.SOURCE_MISS, Kind.SOURCE_OK, Kind.SOURCE_UNWATCHED), "source:"),
    **dict.fromkeys((Kind.MONITOR_MISS, Kind.MONITOR_OK, Kind.MONITOR_UNWATCHED), "medic/RULE/"),
    **dict.fromkeys((Kind.SIGNALS_MISS, Kind.SIGNALS_OK, Kind.SIGNALS_UNWATCHED), "signals/"),
}
OF_ITS_OWN = {"healer_miss": "healer", "healer_ok": "healer", "reach_gap": "healer"}


def shown() -> set[str]:
    """What messages say, between backticks in the first column."""
    rows = table(PAGE, "A message says")
    return {words for row in rows for words in re.findall("`([^`]+)`", row[0])}


def test_the_title_of_each_event_is_on_the_page():
    titles = {}
    for kind in Kind:
        svc = OF_ITS_OWN.get(kind, PREFIXES.get(kind, "") + "NAME")
        event = event_of(kind, svc, AT, late_sec=31.2, timeout_sec=30.0, gap_sec=40.0, down_sec=50.0)
        title = make_event_message(event, encode_event(event), AT).title
        titles[kind] = title.replace("healer is up again", "NAME is up again")
    assert {kind: title for kind, title in titles.items() if title not in shown()} == {}


def test_what_the_notifier_says_of_an_outage_is_on_the_page():
    event = event_of(Kind.HEARTBEAT_MISS, "NAME", AT, late_sec=31.2, timeout_sec=30.0)
    said = {"events": (encode_event(event).decode(),), "ids": (event.id,)}
    good = {NoticeKind.UP, NoticeKind.BLIP, NoticeKind.SETTLED, NoticeKind.NOTE}
    titles = {
        kind: render([Notice(event.id, "NAME", "NAME", kind, AT, AT, **said)]).title
        for kind in NoticeKind
        if kind not in good
    }
    assert {kind: title for kind, title in titles.items() if title not in shown()} == {}


def render(notices):
    return render_message(notices, severity=lambda _: Severity.WARNING, dependents={})


def test_the_command_that_a_message_names_can_be_typed():
    typed = 0
    for kind in Kind:
        for reason in ("silent", "failed"):
            event = event_of(kind, "NAME", AT, late_sec=31.2, reason=reason)
            typed += count_typed(make_event_message(event, encode_event(event), AT).text)
    for kind in NoticeKind:
        notices = [Notice(str(n), f"NAME{n}", f"NAME{n}", kind, AT, AT) for n in range(2)]
        typed += sum(count_typed(render(some).text) for some in (notices, notices[:1]))
    assert typed > 20


def count_typed(text: str) -> int:
    """Parse each command that a message names; return how many there are."""
    lines = [line.removeprefix("next: ") for line in text.splitlines() if line.startswith("next: ")]
    for line in lines:
        program, name, *words = shlex.split(line)
        assert program == "marketswarm"
        load_all_commands().commands[name].make_context(name, words)
    return len(lines)


def test_a_failed_run_and_a_restarted_fleet_are_on_the_page():
    event = event_of(Kind.HEARTBEAT_MISS, "NAME", AT, reason="failed", exit_code=3)
    assert make_event_message(event, encode_event(event), AT).title in shown()
    gap = event_of(Kind.HEARTBEAT_GAP, "NAME", AT, gap_sec=40.0, restarted=True)
    assert {make_event_message(gap, encode_event(gap), AT).title, "5 services restarted, all up"} <= shown()


def test_a_cause_and_a_group_are_on_the_page():
    assert {"NAME is down, and 3 that depend on it", "200 services are down"} <= shown()


def test_what_the_notifier_says_of_itself_is_on_the_page():
    titles = [
        make_broken_channel_message("NAME", "", "410", AT).title.partition(":")[0],
        make_unopened_channel_message("NAME", "", AT).title,
        make_new_address_message({"NAME": "x"}, 1, AT).title.partition(":")[0],
    ]
    assert set(titles) <= shown()


def test_what_the_command_line_says_is_on_the_page():
    said = [row[0] for row in table(PAGE, "The command line says")]
    assert describe_leader(Leader("abc", 1, 5.0)).startswith("no healer leads")
    assert "`no healer leads`" in said
    assert any(f"`{ServiceState.UNWATCHABLE}`" in each for each in said)
    assert any(f"`{ServiceState.FAILED}`" in each for each in said)
    assert {f"exit code {code}" for code in Code if code} <= set(said)


def test_it_is_one_screen_of_short_rows():
    assert len(TEXT.splitlines()) < 83  # with a row for each of the four ways to run a fleet
