"""The truth goes before the environment, and that before the default."""

import orjson
import pytest

from healer.watch import own_heartbeat
from marketswarm.settings import HealerSettings
from marketswarm.truth import load


def beats(section: dict | None, **environment: object) -> tuple[str, float]:
    services = {} if section is None else {"healer": section}
    truth = load(orjson.dumps({"services": services})).truth
    found = own_heartbeat(HealerSettings(**environment), truth.services.get("healer"))
    return found.channel, found.interval_sec


@pytest.mark.parametrize("section", [None, {}, {"heartbeat": {}}, {"threshold": {"heartbeat_cadence": 30}}])
def test_without_a_word_in_the_truth_the_environment_says_and_else_the_default(section):
    assert beats(section) == ("healer:heartbeat", 10)
    assert beats(section, hb_interval_sec=5, healer_heartbeat_channel="h") == ("h", 5)


def test_what_the_truth_says_holds_even_where_it_is_the_default():
    section = {"heartbeat": {"interval_sec": 10, "channel": "healer:heartbeat"}}
    assert beats(section, hb_interval_sec=5, healer_heartbeat_channel="h") == ("healer:heartbeat", 10)


def test_each_word_counts_for_itself():
    section = {"heartbeat": {"interval_sec": 7}}
    assert beats(section, hb_interval_sec=5, healer_heartbeat_channel="h") == ("h", 7)
