"""The cards of what is not as it should be: what happened, what the medic does, what to do, who was told."""

from dataclasses import replace

import pytest

from marketswarm.keys import MARKET_OUTAGES, MASSIVE_ROSTER, MEDIC_OUTAGES, SIGNALS_OUTAGES
from marketswarm.operator.healing import fold_incidents
from marketswarm.status.notifications import OpenIncident
from marketswarm.status.service_rows import ServiceState
from marketswarm.testing import MemoryBus
from services.board.fleet.frame import Frame
from services.board.fleet.incident_pages import IncidentsPage
from services.board.fleet.incident_record import (
    DownTarget,
    HeldRule,
    HeldRules,
    RecordedIncidents,
    read_held_rules,
)
from services.board.fleet.open_incidents import make_cards
from services.board.fleet.snapshot import LastRunView
from services.board.fleet.words import mark_commands
from services.board.templates import TEMPLATES
from support.board_examples import AT, make_service, make_snapshot
from support.healing_record import Step, make_outage

MEDIC, NOTIFIER = make_service("medic"), make_service("notifier")
NOTHING = RecordedIncidents()
DOWN = ServiceState.DOWN
DEGRADED = {"status": "degraded", "detail": "2 of 9 targets do not answer"}


def record(svc: str, *steps: Step) -> RecordedIncidents:
    return RecordedIncidents(tuple(fold_incidents(make_outage(svc, AT - 60, *steps))))


def show(*services, found=NOTHING, rules=(), targets=(), notified=(), alone=False, **changed):
    """Return the cards, and the text of the page without its markup."""
    parts = () if alone else (MEDIC, NOTIFIER)
    snapshot = make_snapshot(*services, *parts, channels={"slack": "x"}, **changed)
    known = HeldRules(tuple(rules), tuple(targets))
    cards = make_cards(snapshot, found, known, {each.key: each for each in notified})
    text = TEMPLATES.render(IncidentsPage(Frame("Incidents", "/incidents", snapshot, "1-1"), cards))
    return cards, " ".join(text.split())


def say(sentences) -> list[str]:
    return [" ".join(phrase.text for phrase in each) for each in sentences]


def test_without_anything_wrong_nothing_is_down_and_nothing_else_is_said():
    cards, text = show(make_service("mesh"))
    assert cards == ()
    assert "Nothing is down, nothing is degraded, and no rule holds." in text
    assert "none of 3 down" in text


@pytest.mark.parametrize(
    ("services", "rules"),
    [
        ([make_service("massive", **DEGRADED)], []),
        ([make_service("massive")], [HeldRule("memory", "massive", AT, "")]),
        ([], [HeldRule("disk", "host", None, "6.2, below 10")]),
        ([make_service("job", ServiceState.FAILED)], []),
    ],
)
def test_what_is_degraded_failed_or_held_by_a_rule_never_stands_under_nothing_is_down(services, rules):
    cards, text = show(*services, rules=rules)
    assert len(cards) == 1
    assert "Nothing is" not in text
    assert "1 not as it should be" in text


def test_an_outage_with_a_proposal_has_the_button_for_it_and_who_was_told():
    told = OpenIncident("massive", down=True, told_at=AT - 50, channels=("slack", "email"), reminded=2)
    asked = OpenIncident("medic/proposed/massive", down=True, told_at=AT - 40, channels=("slack",))
    found = record("massive", ("waiting", "wait"), ("proposed", "restart", "3f9a1c04"))
    rules = [HeldRule("proposed", "massive", AT - 40, "restart; to approve it …")]
    (card,), text = show(make_service("massive", DOWN), found=found, rules=rules, notified=(told, asked))
    assert (card.word, card.proposal.id) == ("down", "3f9a1c04")
    assert say(card.what) == ["silent since"]  # the rule about the proposal is no news of its own
    assert say([card.medic]) == ["The medic proposes: restart it, since"]
    assert card.then == "approve it, or see to it yourself"
    assert say(card.told) == [
        "slack, email, at then 2 reminders",
        "that a remedy is proposed: slack, at",
    ]
    assert "<code>marketswarm medic approve 3f9a1c04</code>" in text
    assert "1 waits for your approval" in text


def test_what_the_medic_will_not_do_has_the_reason_in_words_and_what_to_do():
    found = record("vexy_ai", ("refused", "restart", "not_ours"))
    (card,), text = show(make_service("vexy_ai", DOWN), found=found)
    assert say([card.medic]) == ["The medic does not restart it: it can't restart what runs elsewhere, since"]
    assert card.then == "restart it where it runs"
    assert "not_ours" not in text


@pytest.mark.parametrize(
    ("changed", "number"),
    [
        ({"state": DOWN, "failure": "reported: disk full", "outage": "failed since"}, 1),
        ({"state": ServiceState.FAILED}, 1),
        ({"state": ServiceState.FAILED, "running_since": AT - 9}, 2),
    ],
)
def test_of_a_run_that_failed_its_output_is_read_first(changed, number):
    run = LastRunView(ok=False, text="exit 3", ended_at=AT - 60)
    found = record("backup", ("refused", "restart", "not_ours"))
    (card,), text = show(make_service("backup", last_run=run, **changed), found=found)
    first = f"read what its last run wrote: `marketswarm runs backup --output {number}`"
    assert card.then == f"{first}; then restart it where it runs"
    assert '<a href="/services/backup#runs">its runs</a>' in text
    (alone,), _ = show(make_service("backup", last_run=run, **changed), alone=True)
    assert alone.then == f"{first}; then let it run again"


def test_of_a_daemon_that_is_silent_no_run_is_read():
    run = LastRunView(ok=False, text="exit 3", ended_at=AT - 60)
    (card,), text = show(make_service("mesh", DOWN, last_run=run))
    assert "runs mesh" not in card.then
    assert "#runs" not in text


def test_a_page_and_a_source_that_are_down_have_a_card_each():
    targets = (
        DownTarget("massive", "massive/shop", AT - 60, "HTTP 503"),
        DownTarget("sources", "source:kraken", None, "refused", is_alert=False),
    )
    told = OpenIncident("massive/shop", down=True, told_at=AT - 50, channels=("slack",))
    (page, source), text = show(make_service("massive"), targets=targets, notified=(told,))
    assert say(page.what) == ["its probes fail: HTTP 503, since"]
    assert say([page.medic]) == ["massive keeps probing it"]
    assert "`marketswarm logs massive`" in page.then
    assert say(page.told) == ["slack, at"]
    assert say(source.what) == ["it serves nothing: refused"]
    assert "`marketswarm source status`" in source.then
    check = DownTarget("signals", "signals/witness", AT - 60, "the witness refuses: 422")
    (card,), _ = show(make_service("signals"), targets=(check,))
    assert say(card.what) == ["it fails: the witness refuses: 422, since"]
    assert say([card.medic]) == ["signals keeps checking it"]
    assert say(source.told) == ["no one: the truth says that its loss is no alert"]
    assert "2 not as they should be" in text
    assert "/alerts?svc=massive/shop" in text


def test_a_page_that_nobody_asks_and_one_that_a_person_sees_to_say_so():
    target = DownTarget("massive", "massive/shop", AT - 60, "")
    acked = OpenIncident("massive/shop", down=True, acked_by="kim", told_at=AT, channels=("slack",))
    cards, _ = show(make_service("massive", DOWN), targets=(target,), notified=(acked,))
    page = next(each for each in cards if each.target)
    assert say([page.medic]) == ["massive is down: nobody is probing it"]
    assert page.then == "nothing: kim sees to it"


def test_a_service_that_is_paused_is_no_incident():
    assert show(make_service("mesh", ServiceState.SILENT, paused=True))[0] == ()


def test_a_rule_says_in_words_what_was_measured():
    rule = HeldRule("memory", "massive", AT, "process_memory 92.5, above 90 for 60 s")
    (card,), _ = show(make_service("massive"), rules=[rule])
    assert say(card.what) == ["rule memory: the memory that it uses: 92.5 %, above 90 for 60 s, since"]


async def test_only_targets_that_are_down_are_read():
    bus = MemoryBus()
    down, quiet = b'{"verdict":"down","since":5.0,"error":"503","told":"x"}', b'{"verdict":"down"}'
    for name, raw in ("shop", down), ("well", b'{"verdict":"up"}'), ("junk", b"{"):
        await bus.client.hset(MASSIVE_ROSTER, name, raw)
    await bus.client.hset(MARKET_OUTAGES, "kraken\x1b", quiet)
    await bus.client.hset(SIGNALS_OUTAGES, "witness", down)
    assert (await read_held_rules(lambda: bus, {"massive"})).targets == (
        DownTarget("massive", "massive/shop", 5.0, "503"),
        DownTarget("sources", r"source:kraken\x1b", None, "", is_alert=False),
        DownTarget("signals", "signals/witness", 5.0, "503"),
    )
    assert len((await read_held_rules(lambda: bus, {"signals"})).targets) == 3
    assert (await read_held_rules(lambda: bus, {"mesh"})).targets == ()
    bus.connected = False
    assert (await read_held_rules(lambda: bus, {"massive"})).away.startswith("bus system-redis: ")


@pytest.mark.parametrize(
    ("services", "said"),
    [
        ([], "This fleet has no medic"),
        ([make_service("medic", DOWN)], "The medic is down: nothing is done"),
        ([MEDIC], "The medic has not taken it up yet"),
    ],
)
def test_without_a_record_of_it_the_page_says_why_nothing_is_done(services, said):
    cards, _ = show(make_service("mesh", DOWN), *services, alone=True)
    (card,) = [each for each in cards if each.subject == "mesh"]
    assert card.medic[0].text.startswith(said)
    assert "marketswarm logs mesh" in card.then


@pytest.mark.parametrize(
    ("notified", "changed", "said"),
    [
        ((), {}, "no one yet"),
        ((), {"channels": {}}, "no one: no channel is open"),
        ((OpenIncident("mesh", down=True, held="silenced"),), {}, "no message sent: it is silenced"),
        ((OpenIncident("mesh", down=True),), {}, "no one yet: the message is on its way"),
    ],
)
def test_it_says_why_no_one_was_told(notified, changed, said):
    snapshot = make_snapshot(make_service("mesh", DOWN), NOTIFIER, **{"channels": {"slack": "x"}, **changed})
    (card,) = make_cards(snapshot, NOTHING, HeldRules(), {each.key: each for each in notified})
    assert say(card.told) == [said]


def test_a_fleet_without_a_notifier_tells_no_one():
    cards, _ = show(make_service("mesh", DOWN), alone=True)
    assert say(cards[0].told) == ["no one: this fleet has no notifier"]


def test_one_who_sees_to_it_is_named_and_a_proposal_still_waits():
    acked = OpenIncident("mesh", down=True, acked_by="kim", told_at=AT, channels=("slack",))
    (card,), _ = show(make_service("mesh", DOWN, acked_by="kim"), notified=(acked,))
    assert card.then == "nothing: kim sees to it"
    found = record("mesh", ("proposed", "restart", "3f9a1c04"))
    (card,), _ = show(make_service("mesh", DOWN, acked_by="kim"), found=found, notified=(acked,))
    assert card.then.startswith("approve it")


def test_what_is_down_because_of_another_is_on_the_card_of_that_one_and_down_comes_first():
    services = (
        make_service("massive", **DEGRADED),
        make_service("rss_agg", DOWN),
        make_service("vexy_ai", DOWN, cause="rss_agg"),
    )
    cards, text = show(*services)
    assert [each.subject for each in cards] == ["rss_agg", "massive"]
    assert "1 that needs it is down, too" in text
    assert "2 of 5 down" in text


def test_a_medic_that_has_stopped_comes_before_all_else():
    found = replace(record("mesh", ("refused", "restart", "too_many_remedies")), blown_at=AT - 9)
    rules = [HeldRule("fuse", "fleet", AT - 9, "")]
    cards, text = show(make_service("mesh", DOWN), found=found, rules=rules)
    assert [(each.subject, each.word) for each in cards] == [("medic", "has stopped"), ("mesh", "down")]
    assert "<code>marketswarm medic approve fuse</code>" in text


def test_an_outage_on_record_whose_service_is_up_again_is_watched():
    found = record("mesh", ("acted", "restart"), ("verified", "restart"))
    (card,), _ = show(make_service("mesh"), found=found)
    assert card.word == "up again"
    assert "watches whether it stays so" in card.medic[0].text
    over = record("mesh", ("verified", "restart"), ("resolved", "", "healed"))
    assert show(make_service("mesh"), found=over)[0] == ()


def test_a_bus_that_is_away_is_said_and_then_nothing_is_called_well():
    _, text = show(make_service("mesh"), notes=("bus market-redis does not answer: refused",))
    assert "bus market-redis does not answer: refused." in text
    assert "Nothing is known to be down." in text


async def test_only_rules_that_hold_are_read_and_what_can_not_be_parsed_is_none():
    bus = MemoryBus()
    held = b'{"verdict":"down","since":5.0,"error":"6.2 \\u001b[2J, below 10","told":"x"}'
    over = b'{"verdict":"up"}'
    for name, raw in ("disk/host", held), ("memory/mesh", over), ("x\x1b/y", b"{"), ("noslash", held):
        await bus.client.hset(MEDIC_OUTAGES, name, raw)
    found = await read_held_rules(lambda: bus, {"medic"})
    assert [(each.rule, each.subject) for each in found.rules] == [("disk", "host"), ("noslash", "")]
    assert all(each.why.isprintable() for each in found.rules)
    bus.connected = False
    assert (await read_held_rules(lambda: bus, {"medic"})).away.startswith("bus system-redis: ")


def test_only_what_stands_in_backticks_is_code_and_nothing_else_is_markup():
    assert mark_commands("a `b <i>` c") == "a <code>b &lt;i&gt;</code> c"
    assert mark_commands("a ` <b>") == "a ` &lt;b&gt;"
