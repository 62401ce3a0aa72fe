from marketswarm.agent import first_point, point_like
from marketswarm.truth import AccessPoint


def points(*keys):
    return [AccessPoint(bus="market-redis", key=key) for key in keys]


def test_the_first_that_carries_no_heartbeat_is_meant():
    found = first_point(points("rss_agg:heartbeat", "news:all", "rss:items"), "system-redis", "rss:items")
    assert (found.bus, found.key) == ("market-redis", "news:all")


def test_without_any_the_contract_holds():
    found = first_point(points("rss_agg:heartbeat"), "system-redis", "rss:items")
    assert (found.bus, found.key) == ("system-redis", "rss:items")


def test_among_several_the_last_word_tells():
    several = points("team:topology", "team:events")
    assert point_like(several, "system-redis", "mesh:events").key == "team:events"
    assert point_like(several, "system-redis", "mesh:topology").key == "team:topology"
    assert point_like(several, "system-redis", "mesh:other").key == "mesh:other"
