"""What the summary knows of the ways to reach people: names and hosts, and nothing that is secret."""

import dataclasses

import orjson
import pytest

from marketswarm.exit import Exit
from marketswarm.fleet.plan import Plan, PlannedAgent, PlannedBus
from marketswarm.fleet.summary import SummaryFacts, summary, ways
from marketswarm.truth import Truth, load

SCENE = SummaryFacts(
    program="valkey-server", data=".marketswarm", make=True, took_sec=2.34, miss_after_sec=30
)

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


def test_it_says_who_where_and_what_to_type_next(plan):
    text = "\n".join(summary(plan, UP, SCENE))
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
    assert "  users     none: the buses are open to all on this machine; --acl shuts them" in summary(
        plan, UP, SCENE
    )
    guarded = summary(plan, UP, dataclasses.replace(SCENE, guarded=True))
    assert "  users     one a service (--acl); passwords in .marketswarm/secrets" in guarded
    others = dataclasses.replace(plan, buses=plan.buses[1:])
    assert "users" not in "\n".join(summary(others, UP, SCENE))


@pytest.mark.parametrize("make", [True, False])
def test_the_hints_for_a_fleet_in_another_folder_name_that_folder(plan, make):
    lines = summary(plan, UP, dataclasses.replace(SCENE, data="/tmp/my fleet", make=make))  # noqa: S108 - shown only
    commands = [line.strip().partition("  ")[0] for line in lines]
    for command in ("status", "alerts", "simulate rss_agg"):
        assert f"marketswarm {command} --data '/tmp/my fleet'" in commands
    assert not any(command.startswith("make ") for command in commands)
    assert "--data" not in "\n".join(summary(plan, UP, SCENE))


def test_who_was_stopped_meanwhile_is_not_told_to_be_up(plan):
    text = "\n".join(summary(plan, ["healer"], SCENE))
    assert "The service is up" in text
    assert "stopped   rss_agg" in text


def test_it_says_where_the_metrics_are(plan):
    assert "metrics" not in "\n".join(summary(plan, UP, SCENE))
    agents = tuple(
        dataclasses.replace(agent, metrics_port=port)
        for agent, port in zip(plan.agents, (9100, 9101), strict=True)
    )
    text = "\n".join(summary(dataclasses.replace(plan, agents=agents), UP, SCENE))
    assert "  metrics   healer:9100 rss_agg:9101" in text


def test_it_says_how_people_are_told(plan):
    agents = [*UP, "notifier"]
    assert "otifi" not in "\n".join(summary(plan, UP, SCENE))
    assert "Nobody is notified: set WEBHOOK_URL" in "\n".join(summary(plan, agents, SCENE))
    told = dataclasses.replace(SCENE, ways=("webhook to hooks.example.org", "email to mail.example.org"))
    assert "Notifications: webhook to hooks.example.org, email to mail.example.org" in summary(
        plan, agents, told
    )


def test_it_shows_no_password(plan):
    text = "\n".join(summary(plan, UP, SCENE))
    assert "hunter2" not in text
    assert "redis://far:6379  (not ours: used as it is)" in text


def test_without_a_makefile_it_names_the_program(plan):
    text = "\n".join(summary(plan, UP, dataclasses.replace(SCENE, make=False)))
    assert "marketswarm simulate rss_agg" in text
    assert "make " not in text


def test_without_a_healer_there_is_no_miss_to_wait_for(plan):
    assert "simulate" not in "\n".join(summary(plan, ["rss_agg"], SCENE))


def test_it_fits_eighty_columns(plan):
    many = dataclasses.replace(plan, agents=tuple(PlannedAgent(f"service_{n}", "m") for n in range(40)))
    assert max(map(len, summary(many, [agent.svc for agent in many.agents], SCENE))) <= 90
    assert (
        max(
            len(line)
            for line in summary(many, [agent.svc for agent in many.agents], SCENE)
            if "service_" in line and "make" not in line
        )
        <= 80
    )


def test_of_a_service_with_several_processes_it_says_how_many_are_up(plan):
    three = tuple(PlannedAgent("rss_agg", "services.rss_agg", 9100 + n, number=n) for n in (1, 2, 3))
    plan = dataclasses.replace(plan, agents=(plan.agents[0], *three))
    text = "\n".join(summary(plan, ["healer", "rss_agg", "rss_agg/2", "rss_agg/3"], SCENE))
    assert "All 2 services are up" in text
    assert "services  healer rss_agg(3)" in text
    assert "rss_agg:9101 rss_agg/2:9102 rss_agg/3:9103" in text
    assert "simulate SVC=rss_agg " in text
    text = "\n".join(summary(plan, ["healer", "rss_agg", "rss_agg/3"], SCENE))
    assert "services  healer rss_agg(2 of 3)" in text
    assert "stopped   rss_agg/2" in text


def test_with_users_on_the_buses_it_says_where_their_passwords_are(plan):
    guarded = dataclasses.replace(SCENE, guarded=True)
    assert "passwords in .marketswarm/secrets" in "\n".join(summary(plan, UP, guarded))
    assert "passwords" not in "\n".join(summary(plan, UP, SCENE))


def truth(channels=None) -> Truth:
    section = {} if channels is None else {"settings": {"channels": channels}}
    return load(orjson.dumps({"services": {"a": {}, "notifier": section}})).truth


async def test_without_any_there_is_none():
    assert await ways(truth()) == ()
    assert await ways(Truth()) == ()


async def test_those_of_the_environment_have_their_hosts_and_no_more(monkeypatch):
    monkeypatch.setenv("WEBHOOK_URL", "https://hooks.example.org/T0/B0/hunter2")
    monkeypatch.setenv("SMTP_HOST", "mail.example.org")
    monkeypatch.setenv("SMTP_FROM", "swarm@example.org")
    monkeypatch.setenv("SMTP_TO", "ops@example.org")
    assert await ways(truth()) == ("webhook to hooks.example.org", "email to mail.example.org")


async def test_those_of_the_truth_go_instead_and_have_their_kinds(monkeypatch):
    monkeypatch.setenv("WEBHOOK_URL", "https://hooks.example.org/T0/B0/hunter2")
    channels = {"night": {"type": "pagerduty", "routing_key": "env:PD"}, "slack": {"type": "slack"}}
    assert await ways(truth(channels)) == ("night (pagerduty)", "slack")


@pytest.mark.parametrize("channels", [[], "slack", {"a": 1, "b": {}}])
async def test_settings_that_make_no_sense_break_nothing(channels):
    assert isinstance(await ways(truth(channels)), tuple)


async def test_a_variable_that_is_wrong_is_named_without_its_value(monkeypatch):
    monkeypatch.setenv("WEBHOOK_URL", "hunter2")
    with pytest.raises(Exit) as end:
        await ways(truth())
    assert end.value.code == 2
    assert "WEBHOOK_URL" in end.value.message
    assert "hunter2" not in end.value.message
