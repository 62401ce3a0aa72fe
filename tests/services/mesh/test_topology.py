import orjson
import pytest

from marketswarm.beat import Beat
from services.mesh.memory import remember
from services.mesh.topology import INSTANCES_A_SERVICE, Event, Topology


def beat(i=1, boot="one", svc="a", **more):
    return Beat(svc, i, more.pop("ts", 1000.0), boot, **more)


@pytest.fixture
def mesh():
    """A topology where every service has a timeout of 3 s, and a short way to speak to it."""
    return Topology(lambda _svc: 3.0)


def heard(mesh, beat, now, bus="system-redis"):
    return [(event.event, event.boot) for event in mesh.heard(bus, beat, now, 1000.0 + now)]


def tick(mesh, now):
    return [(event.event, event.boot) for event in mesh.tick(now, 1000.0 + now)]


def test_the_first_beat_is_joining_and_the_next_is_nothing_new(mesh):
    assert heard(mesh, beat(1), 0) == [("joined", "one")]
    assert heard(mesh, beat(2), 1) == []
    assert len(mesh.instances) == 1


def test_silence_for_its_timeout_is_leaving(mesh):
    heard(mesh, beat(1), 0)
    assert tick(mesh, 3.0) == []
    assert tick(mesh, 3.1) == [("left", "one")]
    assert tick(mesh, 9) == []


def test_a_goodbye_is_leaving_at_once(mesh):
    heard(mesh, beat(1), 0)
    assert heard(mesh, beat(2, status="stopping"), 1) == [("left", "one")]
    assert heard(mesh, beat(1, "two", status="stopping"), 1) == []


def test_coming_back_after_leaving_is_a_restart(mesh):
    heard(mesh, beat(1), 0)
    tick(mesh, 5)
    assert heard(mesh, beat(1, "two"), 6) == [("restarted", "two")]
    assert mesh.instances["a", "two"].restarts == 1
    heard(mesh, beat(2, "two", status="stopping"), 7)
    heard(mesh, beat(1, "three"), 8)
    assert mesh.instances["a", "three"].restarts == 2


def test_a_new_boot_beside_a_living_one_is_a_second_instance(mesh):
    heard(mesh, beat(1), 0)
    assert heard(mesh, beat(1, "two"), 1) == [("joined", "two")]
    heard(mesh, beat(2), 2)
    heard(mesh, beat(2, "two"), 2)
    assert tick(mesh, 4) == []
    assert len(mesh.instances) == 2


def test_a_new_boot_after_whose_coming_the_first_was_never_heard_is_its_successor(mesh):
    heard(mesh, beat(5), 0)
    heard(mesh, beat(1, "two"), 0.5)
    heard(mesh, beat(2, "two"), 2)
    assert tick(mesh, 3.1) == [("restarted", "two")]
    assert mesh.instances["a", "two"].restarts == 1


def test_a_new_boot_when_the_first_is_overdue_is_a_restart_at_once(mesh):
    heard(mesh, beat(5, every=1.0), 0)
    assert heard(mesh, beat(1, "two", every=1.0), 2) == [("restarted", "two")]
    assert list(mesh.instances) == [("a", "two")]


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
    assert mesh.replays == 6


def test_a_sender_without_boot_lives_with_the_same_i_for_ever(mesh):
    heard(mesh, beat(1, None), 0)
    for now in range(1, 10):
        assert heard(mesh, beat(1, None), now) == []
        assert tick(mesh, now) == []
    assert mesh.shown(0)["services"]["a"]["instances"][0]["boot"] is None


def test_nobody_leaves_a_bus_that_is_not_heard(mesh):
    heard(mesh, beat(1), 0)
    heard(mesh, beat(1, svc="b"), 0, bus="market-redis")
    mesh.lost("system-redis")
    assert tick(mesh, 100) == [("left", "one")]
    assert list(mesh.instances) == [("a", "one")]
    mesh.joined("system-redis", 100)
    assert tick(mesh, 102.9) == []
    assert tick(mesh, 103.1) == [("left", "one")]


def test_what_the_truth_drops_is_forgotten_without_a_word(mesh):
    heard(mesh, beat(1), 0)
    mesh.keep(["b"])
    assert mesh.instances == {}


def test_converged_is_said_once_a_revision_when_all_who_show_one_show_it(mesh):
    assert mesh.converged(7, 0) == []
    heard(mesh, beat(1, rev=7), 0)
    heard(mesh, beat(1, "two", svc="b", rev=6), 0)
    heard(mesh, beat(1, None, svc="script"), 0)
    assert mesh.converged(7, 0) == []
    heard(mesh, beat(2, "two", svc="b", rev=7), 1)
    assert mesh.converged(7, 5.0) == [Event("converged", "", "", 5.0, 7)]
    assert mesh.converged(7, 6.0) == []
    assert mesh.converged(8, 6.0) == []


def test_a_wrong_clock_is_shown_and_told_once_an_incident(mesh):
    heard(mesh, beat(1, ts=1000.0), 0)
    assert mesh.shown(0)["services"]["a"]["instances"][0]["skew_sec"] is None
    heard(mesh, beat(2, ts=1008.0), 1)
    heard(mesh, beat(3, ts=1009.0), 2)
    assert mesh.shown(0)["services"]["a"]["instances"][0]["skew_sec"] == 7.0
    assert mesh.skewed == [("a", 7.0)]
    heard(mesh, beat(4, ts=1003.0), 3)
    heard(mesh, beat(5, ts=900.0), 4)
    assert [round(skew) for _svc, skew in mesh.skewed] == [7, -104]


def test_new_boots_without_end_do_not_fill_the_memory(mesh):
    for n in range(3 * INSTANCES_A_SERVICE):
        heard(mesh, beat(1, f"boot{n}"), n / 1000)
    assert len(mesh.instances) == INSTANCES_A_SERVICE


def test_what_is_shown_has_the_agreed_shape(mesh):
    heard(mesh, beat(4, rev=2, status="degraded", detail="slow", every=1.0), 0)
    assert mesh.shown(1001.0) == {
        "ts": 1001.0,
        "services": {
            "a": {
                "instances": [
                    {
                        "boot": "one",
                        "i": 4,
                        "rev": 2,
                        "status": "degraded",
                        "detail": "slow",
                        "every": 1.0,
                        "last_ts": 1000.0,
                        "first_ts": 1000.0,
                        "restarts": 0,
                        "skew_sec": None,
                    }
                ]
            }
        },
        "deaf": [],
        "converged": None,
    }


def test_a_picture_is_remembered_by_the_next_mesh(mesh):
    heard(mesh, beat(1, rev=2), 0)
    tick(mesh, 9)
    heard(mesh, beat(3, "two", rev=2), 10)
    mesh.converged(2, 0)
    raw = orjson.dumps(mesh.shown(1010.0))
    again = Topology(lambda _svc: 3.0)
    assert remember(again, raw, {"a": "system-redis"}, 50.0) == 1
    assert heard(again, beat(4, "two", rev=2), 51) == []
    assert again.instances["a", "two"].restarts == 1
    assert again.converged(2, 0) == []
    assert tick(again, 60) == [("left", "two")]


@pytest.mark.parametrize(
    "raw",
    [
        None,
        b"",
        b"{",
        b"[]",
        b"5",
        b'{"services": 5}',
        b'{"services": {"a": 5}}',
        b'{"services": {"a": {"instances": 5}}}',
        b'{"services": {"a": {"instances": [5, {}, {"boot": 5}]}}}',
        b'{"services": {"a": {"instances": [{"i": 1, "last_ts": "x", "first_ts": 1, "restarts": 0}]}}}',
        b'{"services": {"stranger": {"instances": [{"i": 1, "last_ts": 1, "first_ts": 1, "restarts": 0}]}}}',
        b"x" * (17 << 20),
    ],
)
def test_a_picture_that_is_none_is_not_remembered(mesh, raw):
    assert remember(mesh, raw, {"a": "system-redis"}, 0.0) == 0
