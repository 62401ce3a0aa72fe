import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marketswarm.beat import Beat, Sender, encode_beat, parse_beat
from services.mesh.instance import Instance
from services.mesh.topology import (
    EARLY_SEC,
    MAX_DEPARTED,
    MAX_EARLY,
    MAX_INSTANCES,
    Convergence,
    MeshEvent,
    Topology,
)
from support.examples import examples


def converging(rev=7, now=0.0):
    found = Convergence()
    found.set_revision(rev, now)
    return found


def test_what_was_so_when_it_began_took_no_time_that_anybody_knows():
    found = converging()
    assert found.check({7}, 5.0)
    assert (found.at, found.took_sec) == (7, None)
    assert not found.check({7}, 6.0)


def test_a_reseed_is_reckoned_from_whoever_had_it_first():
    found = converging()
    found.record_revision(8, 10.0)
    found.record_revision(8, 10.5)
    found.set_revision(8, 11.0)
    assert not found.check({7, 8}, 12.0)
    assert found.check({8}, 13.0)
    assert found.took_sec == 3.0


def test_a_revision_that_someone_made_up_long_ago_is_no_beginning():
    found = converging()
    found.record_revision(8, 10.0)
    found.set_revision(8, 10.0 + EARLY_SEC + 1)
    assert found.check({8}, 10.0 + EARLY_SEC + 3)
    assert found.took_sec == 2.0


def test_revisions_without_end_and_old_ones_are_not_remembered():
    for rev, first_seen_at in ((8, 1.0), (7 + MAX_EARLY, 1.0), (8 + MAX_EARLY, 2.0)):
        found = converging()
        for beaten in range(1000):
            found.record_revision(beaten, 1.0)
        found.record_revision(None, 1.0)
        found.set_revision(rev, 2.0)
        assert found.check({rev}, 5.0)
        assert found.took_sec == 5.0 - first_seen_at


def test_a_truth_whose_revision_is_not_known_changes_nothing():
    found = converging()
    found.set_revision(None, 1.0)
    assert found.check({7}, 2.0)
    assert not Convergence().check(set(), 0.0)


def test_going_back_to_a_lower_revision_is_a_reseed_too():
    found = converging()
    assert found.check({7}, 1.0)
    found.set_revision(1, 5.0)
    assert found.check({1}, 6.5)
    assert (found.at, found.took_sec) == (1, 1.5)


def beat(i=1, boot="one", svc="a", **more):
    return Beat(svc, i, more.pop("ts", 1000.0), boot, **more)


@pytest.fixture
def mesh():
    """A topology where every service has a timeout of 3 s, and a short way to speak to it."""
    return Topology(lambda _svc: 3.0)


def heard(mesh, beat, now, bus="system-redis"):
    return [(event.event, event.boot) for event in mesh.record_beat(bus, beat, now, 1000.0 + now)]


def tick(mesh, now):
    return [(event.event, event.boot) for event in mesh.remove_silent(now, 1000.0 + now)]


def boots(mesh, svc="a"):
    return list(mesh.instances_of(svc))


def restarts(mesh, boot, svc="a"):
    return mesh.instances_of(svc)[boot].history.restarts


def test_the_first_beat_is_joining_and_the_next_is_nothing_new(mesh):
    assert heard(mesh, beat(1), 0) == [("joined", "one")]
    assert heard(mesh, beat(2), 1) == []
    assert boots(mesh) == ["one"]


def test_silence_for_its_timeout_is_leaving(mesh):
    heard(mesh, beat(1), 0)
    assert tick(mesh, 3.0) == []
    assert tick(mesh, 3.1) == [("left", "one")]
    assert tick(mesh, 9) == []


def test_a_goodbye_is_leaving_at_once(mesh):
    heard(mesh, beat(1), 0)
    assert heard(mesh, beat(2, status="stopping"), 1) == [("left", "one")]
    assert heard(mesh, beat(1, "two", status="stopping"), 1) == []


@pytest.mark.parametrize("run", ["ended", "failed"])
def test_a_process_that_reports_one_run_leaves_with_it(mesh, run):
    assert heard(mesh, beat(1, run="started"), 0) == [("joined", "one")]
    assert heard(mesh, beat(2, run=run), 1) == [("left", "one")]
    assert boots(mesh) == []


def test_a_process_that_beats_beside_its_runs_stays(mesh):
    heard(mesh, beat(1, run="started"), 0)
    heard(mesh, beat(2), 1)
    assert heard(mesh, beat(3, run="ended"), 2) == []
    assert boots(mesh) == ["one"]


def test_coming_back_after_leaving_is_a_restart(mesh):
    heard(mesh, beat(1), 0)
    tick(mesh, 5)
    assert heard(mesh, beat(1, "two"), 6) == [("restarted", "two")]
    assert restarts(mesh, "two") == 1
    heard(mesh, beat(2, "two", status="stopping"), 7)
    heard(mesh, beat(1, "three"), 8)
    assert restarts(mesh, "three") == 2


def test_a_process_that_was_silent_and_goes_on_has_not_restarted_and_keeps_its_past(mesh):
    heard(mesh, beat(), 0.0)
    tick(mesh, 10.1)
    assert heard(mesh, beat(boot="two"), 11.0) == [("restarted", "two")]
    heard(mesh, beat(boot="other"), 12.0)
    assert tick(mesh, 22.1) == [("left", "two"), ("left", "other")]
    assert heard(mesh, beat(i=2, boot="two"), 30.0) == [("joined", "two")], "although another one left later"
    assert restarts(mesh, "two") == 1
    heard(mesh, beat(i=3, boot="two", status="stopping"), 31.0)
    assert heard(mesh, beat(boot="three"), 32.0) == [("restarted", "three")]
    assert restarts(mesh, "three") == 2


def test_a_new_boot_beside_a_living_one_is_a_second_instance(mesh):
    heard(mesh, beat(1), 0)
    assert heard(mesh, beat(1, "two"), 1) == [("joined", "two")]
    heard(mesh, beat(2), 2)
    heard(mesh, beat(2, "two"), 2)
    assert tick(mesh, 4) == []
    assert len(boots(mesh)) == 2


def test_a_new_boot_after_whose_coming_the_first_was_never_heard_is_its_successor(mesh):
    heard(mesh, beat(5), 0)
    heard(mesh, beat(1, "two"), 0.5)
    heard(mesh, beat(2, "two"), 2)
    assert tick(mesh, 3.1) == [("restarted", "two")]
    assert restarts(mesh, "two") == 1


def test_a_new_boot_when_the_first_is_overdue_is_a_restart_at_once(mesh):
    heard(mesh, beat(5, every=1.0), 0)
    assert heard(mesh, beat(1, "two", every=1.0), 2) == [("restarted", "two")]
    assert boots(mesh) == ["two"]


def test_of_two_instances_one_leaving_is_one_leaving(mesh):
    heard(mesh, beat(1), 0)
    heard(mesh, beat(1, "two"), 0)
    heard(mesh, beat(2), 2)
    heard(mesh, beat(2, "two"), 2)
    heard(mesh, beat(3), 4)
    assert tick(mesh, 5.5) == [("left", "two")]


def test_a_replay_is_no_life(mesh):
    heard(mesh, beat(5), 0)
    for now in (1, 2, 3):
        assert heard(mesh, beat(4), now) == []
        assert heard(mesh, beat(5), now) == []
    assert tick(mesh, 3.1) == [("left", "one")]


def test_a_sender_without_boot_lives_with_the_same_i_for_ever(mesh):
    heard(mesh, beat(1, None), 0)
    for now in range(1, 10):
        assert heard(mesh, beat(1, None), now) == []
        assert tick(mesh, now) == []
    assert mesh.instances_of("a")[""].to_json(9, 1009)["boot"] is None


def test_nobody_leaves_a_bus_that_is_not_heard(mesh):
    heard(mesh, beat(1), 0)
    heard(mesh, beat(1, svc="b"), 0, bus="market-redis")
    mesh.deaf.add("system-redis")
    assert tick(mesh, 100) == [("left", "one")]
    assert (boots(mesh), boots(mesh, "b")) == (["one"], [])
    mesh.mark_heard("system-redis", 100)
    assert tick(mesh, 102.9) == []
    assert tick(mesh, 103.1) == [("left", "one")]


def test_what_the_truth_drops_is_forgotten_without_a_word(mesh):
    heard(mesh, beat(1), 0)
    mesh.keep_services(["b"])
    assert mesh.services == {}


def test_converged_is_said_once_a_revision_when_all_who_show_one_show_it(mesh):
    mesh.convergence.set_revision(7, 0)
    assert mesh.check_convergence(0, 0) == []
    heard(mesh, beat(1, rev=7), 0)
    heard(mesh, beat(1, "two", svc="b", rev=6), 0)
    heard(mesh, beat(1, None, svc="script"), 0)
    assert mesh.check_convergence(0, 0) == []
    heard(mesh, beat(2, "two", svc="b", rev=7), 1)
    assert mesh.check_convergence(5.0, 1.5) == [MeshEvent("converged", "", "", 5.0, 7)]
    assert mesh.check_convergence(6.0, 2) == []
    mesh.convergence.set_revision(8, 10.0)
    assert mesh.check_convergence(6.0, 11) == []
    heard(mesh, beat(3, "two", svc="b", rev=8), 12)
    heard(mesh, beat(2, rev=8), 12.25)
    assert mesh.check_convergence(7.0, 12.5) == [
        MeshEvent("converged", "", "", 7.0, 8, {"took_sec": "2.500"})
    ]


def test_a_wrong_clock_is_shown_and_told_once_an_incident(mesh):
    def shown():
        return mesh.instances_of("a")["one"].to_json(0, 1000)["skew_sec"]

    heard(mesh, beat(1, ts=1000.0), 0)
    assert shown() is None
    heard(mesh, beat(2, ts=1008.0), 1)
    heard(mesh, beat(3, ts=1009.0), 2)
    assert shown() == 7.0
    assert mesh.skewed == [("a", 7.0)]
    heard(mesh, beat(4, ts=1003.0), 3)
    heard(mesh, beat(5, ts=900.0), 4)
    assert [round(skew) for _svc, skew in mesh.skewed] == [7, -104]


def test_new_boots_without_end_do_not_fill_the_memory(mesh):
    for n in range(3 * MAX_INSTANCES):
        heard(mesh, beat(1, f"boot{n}"), n / 1000)
    assert len(boots(mesh)) == MAX_INSTANCES


def test_what_a_process_says_of_itself_is_asked_until_it_says_it(mesh):
    said = (b"{}", b'{"host": "web1", "version": "0.3.0", "started": 900.0}', b'{"host": "other"}')
    for i, payload in enumerate(said, 1):
        mesh.record_beat("system-redis", beat(i, ts=1000.0 + i), float(i), 1000.0 + i, payload)
    assert mesh.instances_of("a")["one"].sender.host == "web1"
    assert mesh.instances_of("a")["one"].uptime_sec == 103.0


def test_uptime_is_what_was_seen_of_who_does_not_say_and_never_below_nothing(mesh):
    heard(mesh, beat(1, ts=1.0), 0)
    heard(mesh, beat(2, ts=2.0), 40)
    assert mesh.instances_of("a")["one"].uptime_sec == 40.0
    mesh.record_beat("system-redis", beat(1, "two", ts=5.0), 41, 1041.0, b'{"started": 1e9}')
    assert mesh.instances_of("a")["two"].uptime_sec == 0.0


def restarted(mesh, times, begin=0.0, every=10.0):
    """So many processes one after the other, each with a goodbye; what was told."""
    told = []
    for n in range(times + 1):
        now = begin + n * every
        told += heard(mesh, beat(1, f"boot{now}"), now)
        told += tick(mesh, now + 0.1)
        if n < times:
            told += heard(mesh, beat(2, f"boot{now}", status="stopping"), now + 1)
    return [event for event, _boot in told if event in ("restarted", "crash_loop")]


def test_five_restarts_an_hour_are_none_and_the_sixth_is_a_crash_loop_told_once(mesh):
    assert restarted(mesh, 5) == ["restarted"] * 5
    assert restarted(mesh, 20, begin=60.0) == ["restarted", "crash_loop", *["restarted"] * 20]
    (one,) = mesh.instances_of("a").values()
    shown = one.to_json(260.0, 1260.0)
    assert (shown["restarts"], shown["restarts_hour"], shown["crash_loop"]) == (26, 26, True)


def test_a_crash_loop_that_calmed_down_is_told_again(mesh):
    restarted(mesh, 8)
    (one,) = mesh.instances_of("a").values()
    one.heard_at = 1e9  # it lives
    tick(mesh, 3640.0)
    assert one.history.is_looping, "three are still less than an hour old"
    tick(mesh, 3671.0)
    assert not one.history.is_looping
    assert one.history.restarts == 8


def test_a_deployment_of_ten_is_no_crash_loop(mesh):
    for n in range(10):
        heard(mesh, beat(1, f"old{n}"), 0)
    told = []
    for n in range(10):
        told += heard(mesh, beat(2, f"old{n}", status="stopping"), 1)
        told += heard(mesh, beat(1, f"new{n}"), 1.5)
    assert [event for event, _ in told] == ["left", "restarted"] * 10
    assert tick(mesh, 2) == []


def test_who_left_together_comes_back_together_with_its_past(mesh):
    for n in range(3):
        heard(mesh, beat(1, f"old{n}"), 0)
    assert [event for event, _ in tick(mesh, 5)] == ["left"] * 3
    for n in range(3):
        assert heard(mesh, beat(1, f"new{n}"), 6) == [("restarted", f"new{n}")]
    assert heard(mesh, beat(1, "more"), 6) == [("joined", "more")]
    assert mesh.departed == {}


def test_the_gone_are_remembered_up_to_a_bound(mesh):
    for n in range(2 * MAX_DEPARTED):
        mesh.add(Instance("a", f"d{n}", "bus", beat(), 0, 0, 0, 0))
    assert [event for event, _ in tick(mesh, 10)] == ["left"] * 2 * MAX_DEPARTED
    assert len(mesh.departed["a"]) == MAX_DEPARTED


def crowd(mesh, replicas=1):
    mesh.replicas = {"a": replicas}
    heard(mesh, beat(1, every=1.0), 0)
    heard(mesh, beat(1, "two", every=1.0), 1)


def test_two_that_provably_run_at_once_where_there_should_be_one_are_a_conflict_told_once(mesh):
    crowd(mesh)
    assert tick(mesh, 1.5) == [], "the first may have died before the second came"
    heard(mesh, beat(2, every=1.0), 2)
    (told,) = mesh.remove_silent(2.1, 1002.1)
    assert (told.event, told.boot, told.more) == ("conflict", "two", {"count": "2", "replicas": "1"})
    for i in (3, 4):
        heard(mesh, beat(i, every=1.0), float(i))
        heard(mesh, beat(i, "two", every=1.0), i + 0.01)
        assert tick(mesh, i + 0.1) == []
    assert mesh.in_conflict == {"a"}
    heard(mesh, beat(9, "two", status="stopping"), 4.2)
    tick(mesh, 4.3)
    assert mesh.in_conflict == set()


def test_a_conflict_ends_with_the_number_that_the_truth_wants(mesh):
    crowd(mesh)
    heard(mesh, beat(2, every=1.0), 2)
    assert tick(mesh, 2.1) == [("conflict", "two")]
    mesh.replicas = {}
    assert tick(mesh, 2.2) == []
    assert mesh.in_conflict == set()
    mesh.replicas = {"a": 1}
    assert tick(mesh, 2.3) == [("conflict", "two")]


def test_a_process_that_was_killed_and_its_successor_are_no_conflict(mesh):
    crowd(mesh)
    for n in range(2, 4):
        heard(mesh, beat(n, "two", every=1.0), float(n))
        assert "conflict" not in [event for event, _ in tick(mesh, n + 0.5)]


def test_silence_that_is_forgiven_proves_nothing(mesh):
    crowd(mesh)
    mesh.mark_heard("system-redis", 1.5)
    heard(mesh, beat(2, "two", every=1.0), 2)
    assert tick(mesh, 2.1) == []
    heard(mesh, beat(3, "two", every=1.0), 4)
    assert tick(mesh, 4.6) == [("restarted", "two")]


def test_as_many_as_there_should_be_are_no_conflict_and_nobody_says_is_none(mesh):
    crowd(mesh, replicas=2)
    heard(mesh, beat(2, every=1.0), 2)
    assert tick(mesh, 2.1) == []
    mesh.replicas = {}
    heard(mesh, beat(1, "three", every=1.0), 2.2)
    heard(mesh, beat(3, every=1.0), 2.3)
    assert tick(mesh, 2.4) == []


def test_an_instance_that_beats_is_not_looked_at_each_second():
    looks = []
    mesh = Topology(lambda svc: looks.append(svc) or 30.0)
    names = [f"svc{n}" for n in range(20)]
    for now in range(300):
        if now % 10 == 0:
            for svc in names:
                heard(mesh, beat(now + 1, svc=svc), now)
        assert tick(mesh, now) == []
    assert len(looks) < 300 / 10 * len(names)
    for now in range(300, 320):
        assert tick(mesh, now) == []
    assert len(tick(mesh, 321)) == len(names)


def test_a_shorter_timeout_counts_from_the_reseed_on():
    timeout_sec = {"a": 86_400.0}
    mesh = Topology(timeout_sec.__getitem__)
    heard(mesh, beat(), 0.0)
    assert tick(mesh, 100.0) == []
    timeout_sec["a"] = 3.0
    mesh.keep_services(["a"])
    assert tick(mesh, 100.5) == [("left", "one")]
    heard(mesh, beat(boot="two"), 101.0)
    assert tick(mesh, 103.0) == []
    assert tick(mesh, 104.5) == [("left", "two")]


def hear(mesh, payload, now, *, may_be_familiar=True):
    """Have a payload heard as the listener does; return the events that follow."""
    if may_be_familiar and mesh.record_familiar("a", "system-redis", payload, now, 1000.0 + now):
        return []
    found = parse_beat(payload, "a")
    return mesh.record_beat("system-redis", found, now, 1000.0 + now, payload)


FULL = {"boot": "one", "rev": 3, "every": 10.0}
FIRST = encode_beat(Beat("a", 9, 1000.0, **FULL))


def test_a_payload_with_another_i_and_ts_alone_is_recorded_unparsed(mesh):
    hear(mesh, FIRST, 0.0)
    assert mesh.record_familiar("a", "market-redis", encode_beat(Beat("a", 10, 1010.5, **FULL)), 2.5, 1002.5)
    one = mesh.instances_of("a")["one"]
    assert (one.i, one.ts, one.bus, one.last_ts, one.last.rev) == (10, 1010.5, "market-redis", 1002.5, 3)
    assert mesh.skewed == [("a", 8.0)]
    assert tick(mesh, 5.4) == []
    assert tick(mesh, 5.6) == [("left", "one")]


def test_an_old_payload_is_a_replay_also_unparsed(mesh):
    hear(mesh, FIRST, 0.0)
    assert mesh.record_familiar("a", "system-redis", FIRST, 2.0, 1002.0)
    assert mesh.instances_of("a")["one"].heard_at == 0.0


@pytest.mark.parametrize(
    "payload",
    [
        encode_beat(Beat("a", 10, 1010.0, **FULL | {"boot": "two"})),
        encode_beat(Beat("a", 10, 1010.0, **FULL | {"rev": 4})),
        encode_beat(Beat("a", 10, 1010.0, **FULL, status="stopping")),
        encode_beat(Beat("b", 10, 1010.0, **FULL)),
        FIRST.replace(b'"i":9', b'"i":-10'),
        FIRST.replace(b'"i":9', b'"i":010'),
        FIRST.replace(b'"i":9', b'"i":10,"i":11'),
        FIRST.replace(b'"i":9', b'"i":' + b"9" * 5000),
        FIRST.replace(b"1000.000", b"1010.0000"),
        FIRST.replace(b"1000.000", b"NaN"),
        FIRST + b" ",
        FIRST[:-1],
        FIRST[:16] + FIRST[-20:],
        b"",
    ],
)
def test_any_other_payload_is_left_to_the_parser_and_changes_nothing(mesh, payload):
    hear(mesh, FIRST, 0.0)
    assert not mesh.record_familiar("a", "system-redis", payload, 2.0, 1002.0)
    one = mesh.instances_of("a")["one"]
    assert (one.i, one.heard_at, len(mesh.services)) == (9, 0.0, 1)


@given(
    st.lists(
        st.tuples(
            st.integers(1, 4),
            st.sampled_from([None, "one", "two"]),
            st.sampled_from([3, 3, 4]),
            st.sampled_from(["ok", "ok", "ok", "degraded", "stopping"]),
            st.sampled_from([None, None, None, "started", "ended"]),
            st.sampled_from([None, None, Sender("web1", "0.3.0", 900.0)]),
        ),
        max_size=12,
    )
)
@settings(max_examples=examples(100))
def test_unparsed_beats_leave_the_topology_that_parsed_ones_leave(beats):
    unparsed, parsed = Topology(lambda _svc: 3.0), Topology(lambda _svc: 3.0)
    for now, (i, boot, rev, status, run, sender) in enumerate(beats):
        payload = encode_beat(Beat("a", i, 1000.0 + i, boot=boot, rev=rev, status=status, run=run), sender)
        assert hear(unparsed, payload, now) == hear(parsed, payload, now, may_be_familiar=False)
        assert unparsed.remove_silent(now, now) == parsed.remove_silent(now, now)
        shown = [[one.to_json(now, now) for one in mesh.instances()] for mesh in (unparsed, parsed)]
        assert shown[0] == shown[1]
