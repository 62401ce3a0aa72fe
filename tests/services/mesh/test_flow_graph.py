import orjson

from marketswarm.truth.flows import Edge, FlowFault, Flows, Key
from services.mesh.flow import MAX_SAMPLES, Rates, assign_groups, build_graph, encode_flow
from services.mesh.flow_reader import ConsumerGroup, KeyReading, age_sec, parse_key

ITEMS = Key("market-redis", "rss:items")
NOW_MS = 1_762_433_460_000


def group(name, **more):
    return ConsumerGroup(name, 1, 0, 0, more.pop("read", 5), None)


def test_a_group_is_that_of_the_reader_who_names_it_or_is_called_so():
    groups = (group("vexy"), group("mine"), group("stray"))
    found = assign_groups(("vexy", "board"), {"board": "mine"}, groups)
    assert {svc: one.name for svc, one in found.items()} == {"vexy": "vexy", "board": "mine"}


def test_the_only_group_is_that_of_the_only_reader():
    assert assign_groups(("vexy",), {}, (group("workers"),))["vexy"].name == "workers"
    assert assign_groups(("vexy", "board"), {}, (group("workers"),)) == {}
    assert assign_groups(("vexy",), {}, (group("a"), group("b"))) == {}
    assert assign_groups(("vexy",), {"vexy": "other"}, (group("workers"),)) == {}, "it says what it is called"


def test_a_rate_is_reckoned_over_the_window():
    rates = Rates()
    assert rates.record("k", 100, 0.0, 60.0) is None
    assert rates.record("k", 110, 5.0, 60.0) == 2.0
    for n in range(2, 200):
        rate = rates.record("k", 110, 5.0 * n, 60.0)
    assert rate == 0.0
    assert len(rates) <= MAX_SAMPLES


def test_a_count_that_fell_began_anew_and_one_that_is_unknown_has_no_rate():
    rates = Rates()
    rates.record("k", 100, 0.0, 60.0)
    assert rates.record("k", 3, 5.0, 60.0) is None
    assert rates.record("k", 13, 10.0, 60.0) == 2.0
    assert rates.record("k", None, 15.0, 60.0) is None
    assert rates.record("k", 20, 20.0, 60.0) is None
    rates.drop_older(25.0)
    assert len(rates) == 0


def test_the_first_entries_of_a_stream_that_was_not_there_are_its_first_rate():
    flows, rates = Flows((Edge("rss", "writes", ITEMS),)), Rates()
    for now, seen in ((0.0, KeyReading("none")), (5.0, KeyReading("stream", length=10, added=10))):
        graph = build_graph(flows, {}, {ITEMS: seen}, rates, now, window_sec=60.0)
    assert graph.keys[ITEMS].seen.rate == 2.0
    build_graph(flows, {}, {}, rates, 10.0, window_sec=60.0)
    assert len(rates) == 0, "a key that is not read any more has no rate"


def test_the_script_s_answer_becomes_what_was_seen():
    answer = [
        *(b"stream", 3, 12, b"1762433400000-0", b"1762433450000-0", 1, 0),
        [b"vexy", 2, 1, 2, 9, b"1762433410000-0", b"1762433420000-0", b"1762433400000-0"],
    ]
    seen = parse_key(answer, NOW_MS)
    assert (seen.length, seen.added, seen.last_sec) == (3, 12, 10.0)
    assert seen.groups == (ConsumerGroup("vexy", 2, 1, 2, 9, 60.0),)
    assert parse_key(b"hash", NOW_MS) == KeyReading("hash")
    unknown = [*(b"stream", 3, -1, b"", b"1-1", 1, 0), [b"\xff", 0, 0, -1, -1, b"4-0", b"5-1", b""]]
    assert parse_key(unknown, NOW_MS).groups == (ConsumerGroup("\ufffd", 0, 0, None, None, None),)
    assert parse_key([b"stream", 3, -1, b"", b"1-1", 99, 0], NOW_MS).groups is None


def test_an_id_that_was_not_made_of_a_time_has_no_age():
    assert age_sec(b"1762433450000-0", NOW_MS) == 10.0
    assert age_sec(b"1762433460500-3", NOW_MS) == 0.0
    for odd in (b"", b"5-1", b"x-y", b"18446744073709551615-1", b"-"):
        assert age_sec(odd, NOW_MS) is None


def test_what_is_shown_has_the_agreed_shape():
    notes = Key("market-redis", "vexy:notes")
    flows = Flows(
        (Edge("rss", "writes", ITEMS), Edge("vexy", "reads", ITEMS), Edge("vexy", "writes", notes)),
    )
    rates = Rates()
    for now, added in ((0.0, 0), (10.0, 15)):
        one = ConsumerGroup("vexy", 1, 2, 3, added, 7.123)
        seen = {
            ITEMS: KeyReading("stream", length=9, added=added, last_sec=0.5, groups=(one,)),
            notes: KeyReading("channel", subscribers=2),
        }
        graph = build_graph(flows, {}, seen, rates, now, window_sec=60.0)
    told = {
        "name": "vexy",
        "consumers": 1,
        "pending": 2,
        "lag": 3,
        "read": 15,
        "oldest_sec": 7.123,
        "rate": 1.5,
    }
    items = {"bus": "market-redis", "key": "rss:items"}
    found = encode_flow(graph, [FlowFault("no_group", *ITEMS, None, "why")], 4, 5.0, 99.12345)
    assert orjson.loads(orjson.dumps(found)) == {
        "ts": 99.123,
        "kept_sec": 3600,
        "revision": 4,
        "every_sec": 5.0,
        "keys": [
            {
                **items,
                "kind": "stream",
                "length": 9,
                "added": 15,
                "rate": 1.5,
                "last_sec": 0.5,
                "groups": [told],
            },
            {"bus": "market-redis", "key": "vexy:notes", "kind": "channel", "subscribers": 2},
        ],
        "edges": [
            {"svc": "rss", "does": "writes", **items, "rate": 1.5},
            {"svc": "vexy", "does": "reads", **items, "group": "vexy", **told},
            {"svc": "vexy", "does": "writes", "bus": "market-redis", "key": "vexy:notes"},
        ],
        "faults": [{"what": "no_group", **items, "svc": None, "text": "why"}],
        "away": {},
        "unmeasured": 0,
    }
