import pytest

from marketswarm.truth.flows import Edge, Flows, Key
from services.mesh.flow import FAULT_KINDS, MAX_FAULTS, FaultFinder, Presence, Rates, build_graph
from services.mesh.flow_reader import ConsumerGroup, KeyReading
from services.mesh.settings import FlowSettings

ITEMS = Key("market-redis", "rss:items")
FLOWS = Flows((Edge("rss", "writes", ITEMS), Edge("vexy", "reads", ITEMS)))
UP = Presence({"rss": 7200.0, "vexy": 7200.0})


def group(name="vexy", lag=0, oldest_sec=None, pending=0, read=10):
    return ConsumerGroup(name, 1, pending, lag, read, oldest_sec)


def stream(*groups, added=10, length=10, last_sec=1.0):
    return KeyReading("stream", length=length, added=added, last_sec=last_sec, groups=groups or (group(),))


def faults(seen, presence=UP, flows=FLOWS, named=(), rates=None, **settings):
    looked = {ITEMS: seen} if seen is not None else {}
    graph = build_graph(flows, dict.fromkeys(named, "g"), looked, rates or Rates(), 10.0, window_sec=60.0)
    return FaultFinder(graph, presence, FlowSettings(**settings)).faults()


def whats(*args, **kwargs):
    return [(fault.what, fault.svc) for fault in faults(*args, **kwargs)]


def test_what_flows_is_well():
    assert faults(stream()) == []
    assert faults(stream(group(lag=5, oldest_sec=59.0, pending=3))) == []


def test_what_was_not_seen_is_judged_by_the_truth_alone():
    assert faults(None) == []
    assert whats(None, flows=Flows((Edge("vexy", "reads", ITEMS),))) == [("no_writer", None)]


def test_a_key_that_is_written_by_a_stranger_is_said_to_be():
    alone, rates = Flows((Edge("vexy", "reads", ITEMS),)), Rates()
    rates.record((ITEMS, ""), 0, 5.0, 60.0)
    (fault,) = faults(stream(), flows=alone, rates=rates)
    assert fault.text == (
        "vexy reads it, and no service writes it; someone does, whom the truth does not name: "
        "2 entries a second"
    )


def test_on_the_alert_log_the_notifier_alone_needs_a_group():
    key = Key("system-redis", "healer:alerts:log")
    up, edges = Presence({"archive": 7200.0, "notifier": 7200.0}), []
    for svc in ("archive", "notifier"):
        edges.append(Edge(svc, "reads", key))
        flows = Flows((Edge("healer", "writes", key), *edges))
        seen = {key: stream(group("other"))}
        graph = build_graph(flows, dict.fromkeys(up.up_sec, "g"), seen, Rates(), 10.0, window_sec=60.0)
        found = FaultFinder(graph, up, FlowSettings()).faults()
        assert [each.svc for each in found] == (["notifier"] if svc == "notifier" else [])


def test_a_group_falls_behind_when_its_oldest_entry_waits_for_too_long():
    (fault,) = faults(stream(group(lag=5, oldest_sec=61.0, pending=3)))
    assert (fault.what, (fault.bus, fault.key), fault.svc) == ("falls_behind", ITEMS, "vexy")
    assert fault.text == (
        "group vexy falls behind: 5 unread, 3 taken and not settled, the oldest waits for 61 s"
    )
    assert faults(stream(group(lag=5, oldest_sec=61.0)), behind_sec=120) == []


def test_a_group_whose_reader_is_down_says_so():
    down = Presence({"rss": 7200.0}, frozenset({"vexy"}))
    (fault,) = faults(stream(group(lag=None, oldest_sec=61.0)), down)
    assert fault.text.startswith("group vexy falls behind: ? unread, 0 taken")
    assert fault.text.endswith("; vexy is down")


def test_a_group_that_is_no_readers_falls_behind_too():
    (fault,) = faults(stream(group(), group("old", lag=7, oldest_sec=1e6)))
    assert (fault.what, fault.svc) == ("falls_behind", None)
    assert fault.text.startswith("group old, which is no reader's of the truth, falls behind: 7 unread")


def test_entries_that_went_before_they_were_read_are_told():
    (fault,) = faults(stream(group(read=5), added=20))
    assert (fault.what, fault.text) == (
        "trimmed_unread",
        "5 entries were trimmed before group vexy had read them",
    )


def test_entries_that_went_when_they_were_read_are_no_loss():
    assert faults(stream(group(read=20), added=20)) == []
    assert faults(stream(group(read=10), added=20)) == []
    assert faults(stream(group(read=None), added=20)) == []


@pytest.mark.parametrize("seen", [KeyReading("none"), KeyReading("stream", added=0, groups=(group(),))])
def test_what_was_never_written_is_told_once_a_writer_is_up_for_a_while(seen):
    assert whats(seen) == [("never_written", "rss")]
    assert whats(seen, Presence({"rss": 59.0, "vexy": 99.0})) == []
    assert whats(seen, Presence()) == [], "nobody knows who is up"
    assert whats(seen, quiet=("rss:*",)) == []
    assert whats(seen, quiet=("rss:*",), expect_sec={"rss:items": 10}) == [("never_written", "rss")]


def test_a_writer_that_writes_nothing_for_too_long_is_told():
    late = stream(last_sec=3700.0)
    assert whats(late) == [("writer_silent", "rss")]
    assert faults(late)[0].text == "nothing new for 61 min 40 s, though rss is up for 2 h"
    assert whats(late, silent_sec=4000) == []
    assert whats(late, quiet=("rss:items",)) == []
    assert whats(late, Presence({"rss": 3500.0})) == [], "it was started since"
    assert whats(stream(last_sec=20.0), expect_sec={"rss:items": 10}) == [("writer_silent", "rss")]
    assert whats(late, silent_sec=1, expect_sec={"rss:items": 4000}) == []


def test_a_key_that_nobody_reads_may_be_silent_unless_something_is_expected():
    written = Flows((Edge("rss", "writes", ITEMS),))
    late = KeyReading("stream", length=1, added=1, last_sec=9000.0)
    assert whats(late, flows=written) == []
    assert whats(late, flows=written, expect_sec={"rss:items": 60}) == [("writer_silent", "rss")]


def test_a_key_whose_writers_are_all_down_has_none():
    down = Presence({"vexy": 99.0}, frozenset({"rss"}))
    (fault,) = faults(stream(), down)
    assert (fault.what, fault.text) == ("writer_down", "nobody writes it: rss is down")
    two = Flows((*FLOWS.edges, Edge("b", "writes", ITEMS)))
    assert whats(stream(), down, flows=two) == []


def test_a_writer_without_beats_that_writes_is_not_down():
    down, rates = Presence({"vexy": 99.0}, frozenset({"rss"})), Rates()
    rates.record((ITEMS, ""), 0, 5.0, 60.0)
    assert faults(stream(), down, rates=rates) == []


def test_a_reader_that_is_up_has_a_group():
    none = KeyReading("stream", length=1, added=1, last_sec=1.0)
    assert whats(none) == [("no_group", "vexy")]
    assert whats(none, Presence({"vexy": 59.0})) == []
    assert whats(none, Presence({}, frozenset({"vexy"}))) == []


def test_a_reader_of_a_key_that_needs_no_group_has_none_unless_its_settings_name_one():
    none = KeyReading("stream", length=1, added=1, last_sec=1.0)
    assert whats(none, no_group=["rss:*"]) == []
    assert whats(none, no_group=["market:*"]) == [("no_group", "vexy")]
    assert whats(none, no_group=["rss:*"], named=["vexy"]) == [("no_group", "vexy")]


def test_one_of_several_readers_may_read_without_a_group_unless_its_settings_name_one():
    flows = Flows((*FLOWS.edges, Edge("tail", "reads", ITEMS)))
    presence = Presence({"rss": 99.0, "vexy": 99.0, "tail": 99.0})
    assert whats(stream(), presence, flows=flows) == []
    assert whats(stream(), presence, flows=flows, named=["tail"]) == [("no_group", "tail")]


def test_a_stream_with_too_many_groups_to_look_at_is_judged_by_its_writers_alone():
    assert faults(KeyReading("stream", length=1, added=1, last_sec=1.0, groups=None)) == []


def test_a_channel_that_somebody_hears_may_be_silent():
    assert faults(KeyReading("channel", subscribers=1)) == []
    assert faults(KeyReading("string")) == []


def test_there_is_an_end_to_what_is_told():
    groups = [group(f"g{n}", lag=1, oldest_sec=999.0) for n in range(3 * MAX_FAULTS)]
    assert len(faults(stream(*groups))) == MAX_FAULTS


def test_each_kind_is_in_the_table():
    import services.mesh.flow as module

    assert all(f"`{what}`" in module.__doc__ for what in FAULT_KINDS)
