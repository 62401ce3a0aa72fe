from dataclasses import replace

import orjson
import pytest

from marketswarm.agent.member import Agent, resolve_section
from marketswarm.agent.service_config import ServiceConfig
from marketswarm.agent.truth_source import FoundTruth
from marketswarm.exit import Exit
from marketswarm.settings import CommonSettings
from marketswarm.testing import MemoryBus
from marketswarm.truth import Heartbeat, parse_truth


def truth(**services):
    return parse_truth(orjson.dumps({"services": services})).truth


MESH = {"heartbeat": {"interval_sec": 2, "redis_url": "redis://market-redis:6379"}}


def test_the_place_is_what_the_section_says():
    place = resolve_section(truth(mesh=MESH).with_default_timeout(12.0), "mesh")
    assert (place.bus, place.timeout_sec, place.missing) == ("market-redis", 12.0, None)
    assert place.section.heartbeat.channel == "mesh:heartbeat"


def test_without_a_section_there_is_no_place_and_the_error_says_what_to_add():
    with pytest.raises(Exit, match=r'add "mesh": \{"heartbeat"') as caught:
        resolve_section(truth(other=MESH), "mesh")
    assert caught.value.code == 2


def test_who_was_dropped_keeps_the_last_place():
    last = resolve_section(truth(mesh=MESH), "mesh")
    assert resolve_section(truth(other=MESH), "mesh", last=last) == replace(last, missing="not in the truth")


def test_who_was_dropped_and_is_named_again_has_a_place_again():
    last = replace(resolve_section(truth(mesh=MESH), "mesh"), missing="not in the truth")
    assert resolve_section(truth(mesh=MESH), "mesh", last=last).missing is None


NIGHTLY = {"heartbeat": {"schedule": "0 3 * * *"}}


def test_an_agent_can_not_be_a_job_and_the_error_says_what_to_do():
    with pytest.raises(Exit, match=r"gives mesh a schedule.*`marketswarm exec --svc mesh --") as caught:
        resolve_section(truth(mesh=NIGHTLY), "mesh")
    assert caught.value.code == 2


def test_an_agent_that_becomes_a_job_keeps_its_beats_and_says_so():
    last = resolve_section(truth(mesh=MESH), "mesh")
    place = resolve_section(truth(mesh=NIGHTLY), "mesh", last=last)
    assert place == replace(last, missing="a job in the truth, and an agent is none")


def test_an_agent_that_makes_its_own_heartbeat_needs_no_section():
    def heartbeat(section):
        return Heartbeat(channel="mine:heartbeat", interval_sec=1.5 if section else 10)

    place = resolve_section(truth(other=MESH), "sentinel", heartbeat)
    assert (place.bus, place.section.heartbeat.channel) == ("system-redis", "mine:heartbeat")
    place = resolve_section(truth(sentinel=MESH), "sentinel", heartbeat)
    assert (place.bus, place.section.heartbeat.interval_sec) == ("market-redis", 1.5)


class Wanted(ServiceConfig):
    """A config that takes over the endpoints of another service."""

    endpoints: tuple[str, ...] = ()

    def complete(self, truth):
        return self.model_copy(update={"endpoints": (*self.endpoints, *truth.services["feeds"].endpoints)})


def test_a_config_follows_other_sections_and_stays_while_its_own_is_missing(monkeypatch):
    monkeypatch.setenv("SYSTEM_REDIS_URL", "redis://127.0.0.1:1")
    me = Agent("mesh", CommonSettings(), None, lambda name, _url: MemoryBus(name))

    def seed(**services):
        found = parse_truth(orjson.dumps({"services": services}))
        me.put_in_force(FoundTruth(found, None, MemoryBus("system-redis")))
        me.call_reseed_callbacks()

    seed(mesh={"endpoints": ["own"]}, feeds={"endpoints": ["a"]})
    config = me.config(Wanted)
    assert config().endpoints == ("own", "a")
    seed(mesh={"endpoints": ["own"]}, feeds={"endpoints": ["a", "b"]})
    assert config().endpoints == ("own", "a", "b")
    seed(feeds={"endpoints": []})
    assert config().endpoints == ("own", "a", "b")
