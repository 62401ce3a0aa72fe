"""What the summary knows of the ways to reach people: names and hosts, and nothing that is secret."""

import orjson
import pytest

from marketswarm.exit import Exit
from marketswarm.fleet.ways import ways
from marketswarm.truth import Truth, load


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
