"""What the summary knows of the ways to reach people: names and hosts, and nothing that is secret."""

import dataclasses
from pathlib import Path

import orjson
import pytest

from marketswarm.exit import Exit
from marketswarm.fleet.access import FleetAccess
from marketswarm.fleet.plan import Plan, PlannedAgent, PlannedBus
from marketswarm.fleet.postgres import PostgresPrograms, PostgresServer
from marketswarm.fleet.summary import SummaryFacts, describe_channels, describe_seeding, format_summary
from marketswarm.fleet.supervisor import WITHOUT_BOARD, FleetSpec
from marketswarm.truth import Truth, parse_truth

FACTS = SummaryFacts(data=".marketswarm", has_makefile=True, begun=100.0, has_redis_cli=True)
WATCHED = parse_truth(b'{"services":{"healer":{},"rss_agg":{}}}').truth
ACCESS = FleetAccess(folder=Path("urls"), variables={})

UP = ["healer", "rss_agg"]


@pytest.fixture
def plan():
    return Plan(
        buses=(
            PlannedBus("system-redis", "redis://127.0.0.1:7379", 7379),
            PlannedBus("market-redis", "redis://user:hunter2@far:6379", None),
        ),
        agents=(PlannedAgent("healer", "healer"), PlannedAgent("rss_agg", "services.rss_agg")),
        elsewhere=("shell_job",),
    )


def summarize(plan, agents=UP, *, facts=FACTS, truth=None, seeding_output=(), **options):
    """Return the summary of a fleet, as text; `options` are fields of its spec."""
    paths = {"truth_path": Path("truth.json"), "data": Path(".marketswarm"), "binary": Path("valkey-server")}
    spec = FleetSpec(plan=plan, truth=truth or WATCHED, **(paths | options))
    return "\n".join(format_summary(spec, agents, seeding_output, facts, 102.34))


def test_it_says_who_where_and_what_to_type_next(plan):
    text = summarize(plan)
    for said in (
        "All 2 services are up, 2.3 s after the start.",
        "system-redis  redis://127.0.0.1:7379  (valkey-server, data in .marketswarm/system-redis)",
        "services  healer rss_agg",
        "elsewhere shell_job",
        "redis-cli -p 7379 SUBSCRIBE healer:alerts",
        "make simulate SVC=rss_agg",
        "Ctrl-C",
    ):
        assert said in text


def test_it_says_whether_the_buses_are_open(plan):
    assert "  users     none: the buses are open to all on this machine; --acl shuts them\n" in summarize(
        plan
    )
    guarded = summarize(plan, access=ACCESS)
    assert "  users     one a service (--acl); passwords in .marketswarm/secrets\n" in guarded
    assert "redis-cli -p 7379" in guarded
    assert "redis-cli" not in summarize(plan, access=dataclasses.replace(ACCESS, closed=True))
    others = dataclasses.replace(plan, buses=plan.buses[1:])
    assert "users" not in summarize(others)


@pytest.mark.parametrize("make", [True, False])
def test_the_hints_for_a_fleet_in_another_folder_name_that_folder(plan, make):
    facts = dataclasses.replace(FACTS, data="/tmp/my fleet", has_makefile=make)  # noqa: S108 - shown only
    commands = [line.strip().partition("  ")[0] for line in summarize(plan, facts=facts).splitlines()]
    for command in ("status", "alerts", "simulate rss_agg"):
        assert f"marketswarm {command} --data '/tmp/my fleet'" in commands
    assert not any(command.startswith("make ") for command in commands)
    assert "--data" not in summarize(plan)


def test_it_names_the_services_that_will_be_missed_because_of_only(plan):
    truth = parse_truth(b'{"services":{"mesh":{"heartbeat":{}},"massive":{"heartbeat":{}}}}').truth
    left_out = dataclasses.replace(plan, left_out=("mesh", "massive"))
    text = summarize(left_out, truth=truth)
    assert "  left out  mesh massive\n            (reported as missed" in text
    assert "left out" not in summarize(plan)


def test_it_says_what_the_seeding_changed(plan):
    added = orjson.dumps({"event": "truth.added", "svc": "mesh"})
    text = summarize(plan, seeding_output=[added, seeded()])
    assert "\n  truth     revision 2, 3 services\n            + mesh\n" in text


def seeded(revision=2, *, changed=True, services=3) -> bytes:
    return orjson.dumps(
        {"event": "truth.seeded", "revision": revision, "changed": changed, "services": services}
    )


def test_a_seeding_is_described_by_its_changes():
    logged = [
        b"no JSON",
        b"[1]",
        orjson.dumps({"event": "truth.added", "svc": "mesh"}),
        orjson.dumps({"event": "truth.dropped", "svc": "old"}),
        orjson.dumps({"event": "truth.changed", "svc": "rss_agg", "what": "interval_sec 10 → 5"}),
        orjson.dumps({"event": "truth.bus_changed", "bus": "third", "what": "added"}),
        orjson.dumps({"event": "truth.repaired", "bus": "market-redis", "revision": 2}),
        seeded(),
    ]
    assert describe_seeding(logged) == [
        "revision 2, 3 services",
        "+ mesh",
        "- old",
        "~ rss_agg: interval_sec 10 → 5",
        "~ third: added",
        "market-redis did not hold it, and does again",
    ]


def test_a_seeding_that_changes_nothing_or_everything_is_one_line():
    assert describe_seeding([seeded(4, changed=False)]) == ["revision 4, unchanged, 3 services"]
    first = [orjson.dumps({"event": "truth.added", "svc": f"s{n}"}) for n in range(3)]
    assert describe_seeding([*first, seeded(1)]) == ["revision 1, 3 services"]
    assert describe_seeding([]) == []


def test_of_many_changes_the_rest_is_counted():
    many = [orjson.dumps({"event": "truth.added", "svc": f"s{n}"}) for n in range(40)]
    lines = describe_seeding([*many, seeded()])
    assert len(lines) == 13
    assert lines[-1].startswith("and 29 more")
    assert len(describe_seeding([*many[:12], seeded()])) == 13


def test_a_strangers_name_cannot_touch_the_terminal():
    lines = describe_seeding(
        [orjson.dumps({"event": "truth.changed", "svc": "a", "what": "\x1b[2J"}), seeded()]
    )
    assert lines[1] == "~ a: \\x1b[2J"


def test_who_was_stopped_meanwhile_is_not_told_to_be_up(plan):
    text = summarize(plan, ["healer"])
    assert "The service is up" in text
    assert "stopped   rss_agg" in text


def test_who_waits_for_the_gate_of_the_sources_is_not_told_to_be_stopped(plan):
    gated = dataclasses.replace(plan, gated=frozenset({"rss_agg"}))
    text = summarize(gated, ["healer"])
    assert "waiting   rss_agg\n            (the gate of the sources is closed" in text
    assert "stopped" not in text


def test_it_says_where_the_metrics_are(plan):
    assert "metrics" not in summarize(plan)
    agents = tuple(
        dataclasses.replace(agent, metrics_port=port)
        for agent, port in zip(plan.agents, (9100, 9101), strict=True)
    )
    text = summarize(dataclasses.replace(plan, agents=agents))
    assert "  metrics   healer:9100 rss_agg:9101" in text


def test_it_says_how_people_are_told(plan):
    agents = [*UP, "notifier"]
    assert "otifi" not in summarize(plan)
    assert "Nobody is notified: set WEBHOOK_URL" in summarize(plan, agents)
    channels = ("webhook to hooks.example.org", "email to mail.example.org")
    text = summarize(plan, agents, facts=dataclasses.replace(FACTS, channels=channels))
    assert "\nNotifications: webhook to hooks.example.org, email to mail.example.org\n" in text


def test_it_shows_no_password(plan):
    text = summarize(plan)
    assert "hunter2" not in text
    assert "redis://far:6379  (not ours: used as it is)" in text


def test_without_a_makefile_it_names_the_program(plan):
    text = summarize(plan, facts=dataclasses.replace(FACTS, has_makefile=False))
    assert "marketswarm simulate rss_agg" in text
    assert "make " not in text


def test_without_a_healer_there_is_no_miss_to_wait_for(plan):
    assert "simulate" not in summarize(plan, ["rss_agg"])


def hint(plan, **sections):
    """Return what is proposed to simulate, and what is said of it, for services with these heartbeats."""
    document = {"services": {svc: {"heartbeat": beat} for svc, beat in sections.items()} | {"healer": {}}}
    services = [PlannedAgent(svc, f"services.{svc}") for svc in sections]
    found = dataclasses.replace(plan, agents=(*services, plan.agents[0]))
    text = summarize(found, ["healer", *sections], truth=parse_truth(orjson.dumps(document)).truth)
    (line,) = [line for line in text.splitlines() if "simulate" in line] or [""]
    return " ".join(line.split())


def test_the_service_to_simulate_is_one_that_beats_and_the_time_is_its_own(plan):
    job = {"schedule": "0 3 * * *"}
    assert hint(
        plan, nightly=job, slow={"timeout_sec": 90}, quick={"interval_sec": 1, "timeout_sec": 2.5}
    ) == ("make simulate SVC=quick stop it, read the miss within 2.5 s, start it")
    assert "SVC=slow stop it, read the miss within 90 s" in hint(plan, nightly=job, slow={"timeout_sec": 90})
    assert "within 30 s" in hint(plan, prices={"max_run_sec": 7200}), "it may run commands, and beats"
    assert hint(plan, nightly=job) == "", "a miss would come tomorrow"
    assert hint(plan, unseen={"monitored": False}) == "", "nobody would miss it"


def test_the_board_is_no_example_while_there_is_another_one(plan):
    assert "SVC=prices stop it, read the miss within 60 s" in hint(plan, board={}, prices={"timeout_sec": 60})
    assert "SVC=board stop it, read the miss within 30 s" in hint(plan, board={})


def test_a_timeout_that_the_environment_sets_is_the_one_that_is_said(plan):
    assert "read the miss within 45 s" in summarize(plan, truth=WATCHED.with_default_timeout(45.0))


def test_a_program_that_is_not_here_is_not_proposed(plan):
    text = summarize(plan, facts=dataclasses.replace(FACTS, has_redis_cli=False))
    assert "redis-cli" not in text
    assert "make alerts" in text


def test_it_fits_eighty_columns(plan):
    many = dataclasses.replace(plan, agents=tuple(PlannedAgent(f"service_{n}", "m") for n in range(40)))
    lines = summarize(many, [agent.svc for agent in many.agents]).splitlines()
    assert max(map(len, lines)) <= 90
    assert max(len(line) for line in lines if "service_" in line and "make" not in line) <= 80


def test_of_a_service_with_several_processes_it_says_how_many_are_up(plan):
    three = tuple(PlannedAgent("rss_agg", "services.rss_agg", 9100 + n, number=n) for n in (1, 2, 3))
    plan = dataclasses.replace(plan, agents=(plan.agents[0], *three))
    text = summarize(plan, ["healer", "rss_agg", "rss_agg/2", "rss_agg/3"])
    assert "All 2 services are up" in text
    assert "services  healer rss_agg(3)" in text
    assert "rss_agg:9101 rss_agg/2:9102 rss_agg/3:9103" in text
    assert "simulate SVC=rss_agg " in text
    text = summarize(plan, ["healer", "rss_agg", "rss_agg/3"])
    assert "services  healer rss_agg(2 of 3)" in text
    assert "stopped   rss_agg/2" in text


def test_with_users_on_the_buses_it_says_where_their_passwords_are(plan):
    assert "passwords in .marketswarm/secrets" in summarize(plan, access=ACCESS)
    assert "passwords" not in summarize(plan)


def truth(channels=None) -> Truth:
    section = {} if channels is None else {"settings": {"channels": channels}}
    return parse_truth(orjson.dumps({"services": {"a": {}, "notifier": section}})).truth


async def test_without_any_there_is_none():
    assert await describe_channels(truth()) == ()
    assert await describe_channels(Truth()) == ()


async def test_those_of_the_environment_have_their_hosts_and_no_more(monkeypatch):
    monkeypatch.setenv("WEBHOOK_URL", "https://hooks.example.org/T0/B0/hunter2")
    monkeypatch.setenv("SMTP_HOST", "mail.example.org")
    monkeypatch.setenv("SMTP_FROM", "swarm@example.org")
    monkeypatch.setenv("SMTP_TO", "ops@example.org")
    assert await describe_channels(truth()) == ("webhook to hooks.example.org", "email to mail.example.org")


async def test_those_of_the_truth_go_instead_and_have_their_kinds(monkeypatch):
    monkeypatch.setenv("WEBHOOK_URL", "https://hooks.example.org/T0/B0/hunter2")
    channels = {"night": {"type": "pagerduty", "routing_key": "env:PD"}, "slack": {"type": "slack"}}
    assert await describe_channels(truth(channels)) == ("night (pagerduty)", "slack")


@pytest.mark.parametrize("channels", [[], "slack", {"a": 1, "b": {}}])
async def test_settings_that_make_no_sense_break_nothing(channels):
    assert isinstance(await describe_channels(truth(channels)), tuple)


async def test_a_variable_that_is_wrong_is_named_without_its_value(monkeypatch):
    monkeypatch.setenv("WEBHOOK_URL", "hunter2")
    with pytest.raises(Exit) as end:
        await describe_channels(truth())
    assert end.value.code == 2
    assert "WEBHOOK_URL" in end.value.message
    assert "hunter2" not in end.value.message


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:8080"),
        ("0.0.0.0", "http://127.0.0.1:8080"),  # noqa: S104 - shown only
        ("::1", "http://[::1]:8080"),
        ("board.example", "http://board.example:8080"),
    ],
)
def test_the_board_is_shown_by_its_address_if_it_runs(plan, host, url, monkeypatch):
    board = PlannedAgent("board", "services.board", board_port=8080)
    whole = dataclasses.replace(plan, agents=(*plan.agents, board))
    monkeypatch.setenv("BOARD_HOST", host)
    assert f"\n  board     {url}\n" in summarize(whole, [*UP, "board"])
    assert "  board  " not in summarize(whole)


def test_a_market_has_its_page_and_its_database(plan, tmp_path):
    agents = (
        *plan.agents,
        PlannedAgent("board", "services.board", board_port=8080),
        PlannedAgent("bars", "services.bars"),
    )
    market = dataclasses.replace(plan, agents=agents, needs_database=True)
    names = [agent.name for agent in agents]
    database = PostgresServer(tmp_path, programs=PostgresPrograms(tmp_path, 15))
    database.url_file.write_text("postgresql://marketswarm:secret@127.0.0.1:5432/marketswarm\n")
    lines = summarize(market, names, database=database).splitlines()
    assert "  market    http://127.0.0.1:8080/market" in lines
    assert "  database      127.0.0.1:5432  (PostgreSQL 15; its URL: .marketswarm/postgres/url)" in lines
    assert "  database      the one of DATABASE_URL, not ours\n" in summarize(market, names)
    assert not any("/market" in line or "database" in line for line in summarize(plan).splitlines())


def test_it_says_that_the_board_is_left_out_of_the_truth(plan):
    without = summarize(plan, truth_path=Path(".marketswarm", WITHOUT_BOARD))
    assert "  board     none, and none in the truth that is seeded (--no-board)\n" in without
    assert "--no-board" not in summarize(plan)
