import pytest

from marketswarm.truth import AccessPoint, Heartbeat, Service
from marketswarm.truth.model import AccessPoints
from services.vexy_ai.sources import Kind, Source, dead_letter_key, find_sources, notes_point


def points(*keys):
    return [AccessPoint(bus="market-redis", key=key) for key in keys]


def test_without_a_word_it_reads_the_feed_items():
    expected = (Source("market-redis", "rss:items", Kind.ITEMS),)
    assert find_sources([]) == expected
    assert find_sources(points("mesh:heartbeat")) == expected


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
    found = find_sources(points("rss:items", "massive:probes", "market:bars", "news", "team:news", "news"))
    assert [(each.key, each.kind) for each in found] == [
        ("rss:items", Kind.ITEMS),
        ("massive:probes", Kind.PROBES),
        ("market:bars", Kind.BARS),
        ("news", Kind.ITEMS),
        ("team:news", Kind.ITEMS),
    ]
