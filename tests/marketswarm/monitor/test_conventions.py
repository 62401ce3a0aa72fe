"""The truth goes before the environment, and that before the default."""

import orjson
import pytest

from marketswarm.monitor import make_healer_heartbeat
from marketswarm.settings.programs import HealerSettings, SentinelSettings
from marketswarm.truth import Watch, parse_truth
from sentinel.watch import build_healer_watch


def beats(section: dict | None, **environment: object) -> tuple[str, float]:
    services = {} if section is None else {"healer": section}
    truth = parse_truth(orjson.dumps({"services": services})).truth
    found = make_healer_heartbeat(HealerSettings(**environment), truth.services.get("healer"))
    return found.channel_for("healer"), found.interval_sec


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


def test_the_sentinel_goes_by_the_same_words():
    truth = parse_truth(orjson.dumps({"services": {"rss_agg": {}}})).truth
    settings = SentinelSettings(hb_interval_sec=5, healer_heartbeat_channel="h")
    assert build_healer_watch(truth, settings) == Watch("healer", "system-redis", "h", 5, 15)
    assert build_healer_watch(truth, SentinelSettings(sentinel_timeout_sec=7)).timeout_sec == 7
