import orjson
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from marketswarm.detector import Publication, State, Subject, Verdict
from marketswarm.detector.states import Reason
from marketswarm.event import Kind, encode_event
from marketswarm.monitor import VerdictEncoder
from marketswarm.monitor.encoder import compute_health_sec
from support.simulation.publishers import NOTICES

MISS = Verdict(
    "a",
    State.DOWN,
    Publication.ALERT,
    100.0,
    reason="silent",
    late_sec=31.2,
    timeout_sec=30.0,
    since=68.8,
    boot="b",
    i=7,
)
OK = Verdict(
    "a", State.UP, Publication.ALERT, 200.0, timeout_sec=30.0, age_sec=0.004, down_sec=131.2, since=68.8
)


def test_a_miss_is_told_kept_and_shown():
    notice = NOTICES.encode(MISS)
    event = orjson.loads(notice.event)
    assert list(event)[:5] == ["type", "svc", "late_sec", "timeout_sec", "ts"]
    assert (event["type"], event["reason"], event["since"], event["by"]) == (
        "heartbeat_miss",
        "silent",
        68.8,
        "healer",
    )
    assert event["id"] == "heartbeat_miss.a.100000"
    assert (notice.field, notice.verdict, notice.channel) == ("a", "down", "healer:alerts")
    assert (notice.health_key, notice.health_sec, notice.assumed) == ("health:a", 90, "unknown")
    assert orjson.loads(notice.value) == {
        "verdict": "down",
        "ts": 100.0,
        "since": 68.8,
        "boot": "b",
        "i": 7,
        "event": event,
    }


def test_a_failure_is_told_with_the_line_that_its_report_said():
    failed = MISS._replace(reason="failed", detail="\x1b[1mdisk full\x1b[0m on redis://:pw@h:1/0\nmore")
    notice = NOTICES.encode(failed)
    assert orjson.loads(notice.event)["detail"] == "disk full on redis://h:1/0"
    assert orjson.loads(notice.value)["event"]["detail"] == "disk full on redis://h:1/0"
    assert "detail" not in orjson.loads(NOTICES.encode(MISS).event)


def test_only_a_healer_tells_what_is_up_on_the_machine_that_a_miss_names():
    miss = MISS._replace(host="db1", host_up=0)
    sentinel = VerdictEncoder(family="healer", by="sentinel", channel="healer:alerts")
    told = [orjson.loads(encoder.encode(miss).event) for encoder in (NOTICES, sentinel)]
    assert [(each["host"], each.get("host_up")) for each in told] == [("db1", 0), ("db1", None)]


def test_an_ok_tells_age_and_outage_and_no_timeout():
    event = NOTICES.build_event(OK)
    assert (event.type, event.age_sec, event.down_sec, event.since) == (Kind.HEARTBEAT_OK, 0.004, 131.2, 68.8)


def test_the_beginning_of_an_outage_is_told_beside_the_last_beat():
    miss = MISS._replace(reason="overdue", down_since=90.0)
    ok = OK._replace(down_sec=110.0, down_since=90.0)
    for verdict in (miss, ok):
        event = orjson.loads(NOTICES.encode(verdict).event)
        assert (event["since"], event["down_since"]) == (68.8, 90.0)
    assert orjson.loads(NOTICES.encode(ok).value)["down_since"] == 90.0


def test_an_ok_has_exactly_the_references_keys_in_front():
    assert list(orjson.loads(NOTICES.encode(OK).event))[:4] == ["type", "svc", "age_sec", "ts"]


def test_a_first_life_is_quiet_but_not_forgotten():
    notice = NOTICES.encode(Verdict("a", State.UP, Publication.LOG, 1.0, timeout_sec=30.0, age_sec=0.0))
    assert (notice.channel, notice.after) == ("healer:alerts", "down"), "unless the roster has it down"
    assert orjson.loads(notice.event)["type"] == "heartbeat_ok"
    assert orjson.loads(notice.value)["verdict"] == "up"


def test_who_is_dropped_leaves_nothing_and_is_closed_if_it_was_down():
    closed = NOTICES.encode(Verdict("a", State.UNWATCHED, Publication.ALERT, 1.0, timeout_sec=30.0))
    assert (closed.value, closed.health_sec, closed.channel, closed.after) == (b"", 0, "healer:alerts", "")
    assert orjson.loads(closed.event)["type"] == "heartbeat_unwatched"
    silent = NOTICES.encode(Verdict("a", State.UNWATCHED, Publication.NONE, 1.0, timeout_sec=30.0))
    assert (silent.value, silent.health_sec, silent.after) == (b"", 0, "down")
    assert silent.event == closed.event, "for the case that the roster has it down"


@pytest.mark.parametrize(("state", "kind"), [(State.DOWN, "bus_miss"), (State.UP, "bus_ok")])
def test_a_bus_has_a_field_of_its_own_and_no_health_key(state, kind):
    notice = NOTICES.encode(Verdict("market-redis", state, Publication.ALERT, 1.0, subject=Subject.BUS))
    assert (notice.field, notice.health_sec, notice.assumed) == ("bus:market-redis", -1, "up")
    assert orjson.loads(notice.event)["type"] == kind


def test_a_sentinel_speaks_of_the_healer_and_without_an_age():
    sentinel = VerdictEncoder(family="healer", by="sentinel", channel="healer:alerts")
    assert sentinel.ok_kind is Kind.HEALER_OK
    verdict = Verdict(
        "healer", State.UP, Publication.ALERT, 1.0, timeout_sec=30.0, age_sec=0.0, down_sec=50.0
    )
    event = sentinel.build_event(verdict)
    assert (event.type, event.age_sec, event.by) == (Kind.HEALER_OK, None, "sentinel")


GAP = Verdict(
    "a",
    State.UP,
    Publication.ALERT,
    9.0,
    timeout_sec=30.0,
    since=1.0,
    boot="b",
    i=3,
    gap_sec=0.0,
    restarted=True,
    event_id="heartbeat_gap.a.0f",
)


def test_a_gap_is_told_under_its_mark_and_leaves_the_health_key_alone():
    notice = NOTICES.encode(GAP)
    event = orjson.loads(notice.event)
    assert event == {
        "type": "heartbeat_gap",
        "svc": "a",
        "ts": 9.0,
        "id": "heartbeat_gap.a.0f",
        "since": 1.0,
        "by": "healer",
        "gap_sec": 0.0,
        "restarted": True,
    }
    assert (notice.mark, notice.health_sec, notice.channel) == ("heartbeat_gap.a.0f", -1, "healer:alerts")
    assert orjson.loads(notice.value)["verdict"] == "up"


def test_a_sentinel_says_nothing_of_what_the_healer_did_while_it_was_away():
    notice = VerdictEncoder(family="healer", by="sentinel", channel="healer:alerts").encode(GAP)
    assert (notice.event, notice.channel) == (b"", "")


def test_the_same_verdict_makes_the_same_words_each_time():
    assert NOTICES.encode(MISS) == NOTICES.encode(MISS)


@pytest.mark.parametrize(("timeout", "life"), [(1.0, 60), (20.0, 60), (20.5, 62), (30.0, 90), (600.0, 1800)])
def test_a_health_key_lives_for_three_timeouts_and_a_minute_at_least(timeout, life):
    assert compute_health_sec(timeout) == life


def test_of_a_healer_that_is_watched_no_more_nothing_is_said():
    notice = VerdictEncoder(family="healer", by="sentinel", channel="healer:alerts").encode(
        Verdict("nobody", State.UNWATCHED, Publication.ALERT, 1.0)
    )
    assert (notice.event, notice.value, notice.channel) == (b"", b"", "")


TIMES = st.none() | st.floats(0, 4e9) | st.integers(0, 10**9)
WORDS = st.none() | st.text(max_size=20)


@settings(max_examples=60, deadline=None)
@given(
    subject=st.sampled_from(list(Subject)),
    state=st.sampled_from([State.UP, State.DOWN, State.UNWATCHED]),
    ts=st.floats(0, 4e9),
    times=st.fixed_dictionaries(
        dict.fromkeys(
            ("late_sec", "age_sec", "timeout_sec", "down_sec", "since", "gap_sec", "down_since"), TIMES
        )
    ),
    others=st.fixed_dictionaries(
        {
            "host": WORDS,
            "detail": WORDS,
            "reason": st.sampled_from([None, "flood", *Reason]),
            "restarted": st.none() | st.booleans(),
            "exit_code": st.none() | st.integers(0, 255),
            "event_id": st.none() | st.just("mark"),
        }
    ),
)
def test_an_event_is_written_as_the_one_way_to_write_events_does(subject, state, ts, times, others):
    assume((subject, state) != (Subject.BUS, State.UNWATCHED))  # its ok closes it
    verdict = Verdict("a", state, Publication.ALERT, ts, subject=subject, **times, **others)
    event = NOTICES.build_event(verdict)
    assert NOTICES.encode(verdict).event == encode_event(event)
    for name in ("late_sec", "down_sec", "since", "gap_sec", "down_since"):
        assert getattr(event, name) == (times[name] if times[name] is None else round(times[name], 3))
    assert (event.ts, event.by) == (round(ts, 3), "healer")
