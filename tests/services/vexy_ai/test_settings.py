"""What may stand in the section of vexy_ai, and what is said of what may not."""

import orjson
import pytest

from marketswarm.agent import InputStream
from marketswarm.agent.service_config import load_with_sections, require_config
from marketswarm.truth import AccessPoint, Heartbeat, Service, TruthError, parse_truth
from marketswarm.truth.model import AccessPoints
from services.vexy_ai.settings import (
    NoteSettings,
    StreamKind,
    VexySettings,
    dead_letter_key,
    find_streams,
    notes_point,
)


def own(settings):
    document = {"services": {"vexy_ai": {"heartbeat": {"interval_sec": 1}, "settings": settings}}}
    return require_config(
        VexySettings, "vexy_ai", parse_truth(orjson.dumps(document)).truth.services["vexy_ai"]
    ).settings


NO_TICKER = 'symbols: number 2 is not a ticker: capital letters and digits, such as "BRK.B"'


def test_nothing_has_to_be_said():
    assert own({}) == NoteSettings()


def test_symbols_may_be_a_list_or_have_names():
    assert own({"symbols": ["AAPL", "BRK.B"]}).symbols == {"AAPL": (), "BRK.B": ()}
    assert own({"symbols": {"AAPL": ["Apple"]}}).symbols == {"AAPL": ("Apple",)}


def said(settings):
    document = {"services": {"vexy_ai": {"heartbeat": {"interval_sec": 1}, "settings": settings}}}
    with pytest.raises(TruthError) as found:
        load_with_sections(orjson.dumps(document))
    return [str(each).removeprefix("services.vexy_ai.settings.") for each in found.value.problems]


@pytest.mark.parametrize(
    ("settings", "mistake"),
    [
        ({"batch": 0}, "batch: 0 is less than 1"),
        ({"claim_sec": -1}, "claim_sec: -1 is less than 0.1"),
        ({"tries": 0}, "tries: 0 is less than 1"),
        ({"pending": 0}, "pending: 0 is less than 1"),
        ({"behind_sec": 0}, "behind_sec: 0 is not more than 0"),
        ({"digest_sec": 0}, "digest_sec: 0 is less than 1"),
        ({"digest_sec": 0.5}, "digest_sec: 0.5 is not a whole number"),
        ({"similar": 2}, "similar: 2 is more than 1"),
        ({"symbols": ["AAPL", "apple"]}, NO_TICKER),
        ({"symbols": [1]}, "symbols: a list is not an object"),
        ({"symbols": {"AAPL": ["Apple", "&"]}}, "symbols.AAPL: word 2 has no letter and no digit in it"),
        ({"symbols": {"AAPL": "Apple"}}, "symbols.AAPL: text is not a list"),
        ({"topics": {"rates": [""]}}, "topics.rates[0]: text has less than 1 characters"),
        ({"topics": []}, "topics: a list is not an object"),
        ({"llm": {"model": ""}}, "llm.model: text has less than 1 characters"),
        ({"llm": {"requests_per_hour": -1}}, "llm.requests_per_hour: -1 is less than 0"),
        ({"llm": {"timeout_sec": 1000}}, "llm.timeout_sec: 1000 is more than 120"),
        ({"llm": "gpt"}, "llm: text is not an object"),
    ],
)  # fmt: skip
def test_a_mistake_ends_a_seeding_with_its_path(settings, mistake):
    assert said(settings) == [mistake]


def test_all_mistakes_are_told_at_once_and_a_key_that_nobody_knows_is_a_doubt():
    assert len(said({"batch": 0, "tries": 0, "llm": {"timeout_sec": 0}})) == 3
    document = {
        "services": {"vexy_ai": {"heartbeat": {"interval_sec": 1}, "settings": {"llm": {"modell": "m"}}}}
    }
    (doubt,) = load_with_sections(orjson.dumps(document)).warnings
    assert str(doubt).startswith("services.vexy_ai.settings.llm.modell: is not a known key")


def points(*keys):
    return [AccessPoint(bus="market-redis", key=key) for key in keys]


def test_without_a_word_it_reads_the_feed_items():
    expected = (InputStream("market-redis", "rss:items", StreamKind.ITEMS),)
    assert find_streams([]) == expected
    assert find_streams(points("mesh:heartbeat")) == expected


@pytest.mark.parametrize(
    ("keys", "notes", "dead"),
    [
        ([], "vexy:notes", "vexy:dead"),
        (["vexy_ai:heartbeat", "team:dead", "a", "team:notes"], "team:notes", "team:dead"),
        (["dead", "said", "more"], "said", "dead"),
        (["team:dead"], "vexy:notes", "team:dead"),
    ],
)
def test_notes_and_the_dead_go_where_the_truth_says(keys, notes, dead):
    beats = Heartbeat(channel="vexy_ai:heartbeat")
    section = Service(heartbeat=beats, access_points=AccessPoints(publish_to=tuple(points(*keys))))
    assert notes_point(section) == AccessPoint(bus="market-redis", key=notes)
    assert dead_letter_key(section) == dead


def test_the_last_word_of_a_key_says_what_it_carries():
    found = find_streams(points("rss:items", "massive:probes", "market:bars", "news", "team:news", "news"))
    assert [(each.key, each.kind) for each in found] == [
        ("rss:items", StreamKind.ITEMS),
        ("massive:probes", StreamKind.PROBES),
        ("market:bars", StreamKind.BARS),
        ("news", StreamKind.ITEMS),
        ("team:news", StreamKind.ITEMS),
    ]
