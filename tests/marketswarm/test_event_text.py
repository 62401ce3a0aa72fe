"""What people read of an event: in messages, on the terminal and on the board."""

import pytest

from marketswarm.channels import Severity, make_event_message
from marketswarm.channels.message import LATE_SEC
from marketswarm.event import UNWATCHED_REASON, Event, Kind, encode_event, parse_event
from marketswarm.event_text import describe_event, describe_outage, join_words

# fmt: off
SAYS = [
    (Event(Kind.HEALER_MISS, "healer", 9.0, "a", "sentinel", late_sec=35, timeout_sec=30, reason="silent"),
     "healer is down", "no beat for 35 s (timeout 30 s); no service is watched until it is back", "critical"),
    (Event(Kind.HEALER_MISS, "healer", 9.0, "a", "sentinel", late_sec=35, timeout_sec=30, reason="stopped"),
     "healer is down",
     "no beat for 35 s, after it said goodbye (timeout 30 s); no service is watched until it is back",
     "critical"),
    (Event(Kind.HEALER_OK, "healer", 9.0, "a", "sentinel", down_sec=7250),
     "healer is up again", "after 2 h", "info"),
    (Event(Kind.BUS_MISS, "market-redis", 9.0, "a", "healer", late_sec=12.04, reason="refused"),
     "bus market-redis is away", "it has not answered for 12 s (refused)", "critical"),
    (Event(Kind.BUS_OK, "market-redis", 9.0, "a", "healer"),
     "bus market-redis is back", "it answers", "info"),
    (Event(Kind.HEARTBEAT_MISS, "rss_agg", 9.0, "a", "healer", late_sec=31.2, timeout_sec=30),
     "rss_agg is down", "no beat for 31.2 s (timeout 30 s)", "warning"),
    (Event(Kind.HEARTBEAT_MISS, "a", 9.0, "a", "healer", late_sec=30, timeout_sec=30, reason="never_seen"),
     "a is down", "never heard, in the 30 s since listening began", "warning"),
    (Event(Kind.HEARTBEAT_OK, "a", 9.0, "a", "healer", age_sec=0.004), "a is up", "it beats", "info"),
    (Event(Kind.HEARTBEAT_UNWATCHED, "a", 9.0, "a", "healer"),
     "a is no longer watched", "it was down, and the truth no longer asks for it", "info"),
    (Event(Kind.HEARTBEAT_GAP, "a", 9.0, "a", "healer", gap_sec=0.0, restarted=True),
     "a restarted, and is up", "it did not beat all the time while nobody listened", "info"),
    (Event(Kind.HEARTBEAT_GAP, "a", 9.0, "a", "healer", gap_sec=250.0, restarted=False),
     "a was away unseen", "silent for at least 4 min 10 s while nobody listened", "info"),
    (Event(Kind.BUS_OK, "extra", 9.0, "a", "healer", reason=UNWATCHED_REASON, since=1.0, down_sec=8.0),
     "bus extra is no longer watched", "it was away, and the truth no longer asks for it", "info"),
    (Event(Kind.WATCH_MISS, "a", 9.0, "a", "healer", reason="auth"),
     "a can't be watched", "its bus does not let its channel be heard (auth)", "warning"),
    (Event(Kind.WATCH_MISS, "a", 9.0, "a", "healer", reason="flood"),
     "a can't be watched", "more comes on its channel than the healer reads, so its silence is not judged",
     "warning"),
    (Event(Kind.TRUTH_DRIFT, "b", 9.0, "a", "sentinel"),
     "the truth on b has drifted", "it is not the same as on the other buses", "warning"),
    (Event(Kind.TRUTH_DRIFT, "b", 9.0, "a", "sentinel", reason="missing"),
     "the truth on b has drifted", "it is missing", "warning"),
    (Event(Kind.HEARTBEAT_MISS, "backup", 9.0, "a", "healer", late_sec=90000, reason="overdue", since=3.0),
     "backup is overdue", "no run was reported by its deadline; no run for 25 h", "warning"),
    (Event(Kind.HEARTBEAT_MISS, "backup", 9.0, "a", "healer", late_sec=90000, reason="never_ended"),
     "backup never ended",
     "its run started, and did not end within its longest time; no run ever", "warning"),
    (Event(Kind.PROBE_MISS, "massive/shop", 9.0, "a", "massive", late_sec=30.1, reason="status_503"),
     "massive/shop is down", "its probes have failed for 30.1 s (status_503)", "warning"),
    (Event(Kind.PROBE_OK, "massive/shop", 9.0, "a", "massive", down_sec=135.2),
     "massive/shop is up again", "after 2 min 15 s", "info"),
    (Event(Kind.PROBE_UNWATCHED, "massive/shop", 9.0, "a", "massive"),
     "massive/shop is no longer probed", "it was down, and the truth no longer asks for it", "info"),
    (Event(Kind.MONITOR_MISS, "medic/disk/host", 9.0, "a", "medic", late_sec=60.0, severity="critical",
           reason="host_disk_free 7.5, below 10 for 60 s"),
     "medic/disk/host holds",
     "this rule of the medic has held for 60 s (host_disk_free 7.5, below 10 for 60 s)", "critical"),
    (Event(Kind.MONITOR_OK, "medic/disk/host", 9.0, "a", "medic", down_sec=135.2, severity="critical"),
     "medic/disk/host no longer holds", "after 2 min 15 s", "info"),
    (Event(Kind.MONITOR_UNWATCHED, "medic/disk/host", 9.0, "a", "medic"),
     "medic/disk/host is no longer evaluated", "it held, and the truth no longer asks for it", "info"),
    (Event(Kind.MONITOR_MISS, "medic/proposed/feed", 9.0, "a", "medic", late_sec=0.0, severity="warning",
           reason="restart; to approve it until 2027-01-15 08:15:00 UTC: marketswarm medic approve 3f9a1c04"),
     "the medic proposes a remedy for feed",
     "restart; to approve it until 2027-01-15 08:15:00 UTC: marketswarm medic approve 3f9a1c04",
     "warning"),
    (Event(Kind.MONITOR_OK, "medic/proposed/feed", 9.0, "a", "medic", down_sec=135.2),
     "the medic proposes nothing more for feed",
     "it was approved or withdrawn, expired, or is not needed", "info"),
    (Event(Kind.MONITOR_UNWATCHED, "medic/proposed/feed", 9.0, "a", "medic"),
     "medic/proposed/feed is no longer evaluated", "it held, and the truth no longer asks for it", "info"),
    (Event(Kind.SIGNALS_MISS, "signals/witness", 9.0, "a", "signals", late_sec=60.0, severity="critical",
           reason="the witness refuses: 422", detail="the witness said: a fork"),
     "signals/witness fails",
     "this check of the signals has failed for 60 s (the witness refuses: 422); the witness said: a fork",
     "critical"),
    (Event(Kind.SIGNALS_OK, "signals/witness", 9.0, "a", "signals", down_sec=135.2),
     "signals/witness holds again", "after 2 min 15 s", "info"),
    (Event(Kind.SIGNALS_UNWATCHED, "signals/witness", 9.0, "a", "signals"),
     "signals/witness is no longer checked", "it failed, and the truth no longer asks for it", "info"),
    (Event(Kind.WATCH_MISS, "rss_agg", 9.0, "a", "healer", reason="auth", since=3.0),
     "rss_agg can't be watched", "its bus does not let its channel be heard (auth)", "warning"),
    (Event(Kind.WATCH_OK, "rss_agg", 9.0, "a", "healer", down_sec=135.2),
     "rss_agg is watched again", "after 2 min 15 s", "info"),
    (Event(Kind.WATCH_UNWATCHED, "rss_agg", 9.0, "a", "healer"),
     "rss_agg is no longer watched", "it could not be heard, and the truth no longer asks for it", "info"),
    (Event(Kind.REACH_GAP, "healer", 9.0, "a", "healer", since=3.0, gap_sec=31.5),
     "the healer reached no bus",
     "for 31.5 s; its own network, or all buses at once; nothing was watched", "info"),
]
# fmt: on


@pytest.mark.parametrize(("event", "title", "text", "severity"), SAYS, ids=lambda value: str(value)[:30])
def test_an_event_reads_like_this(event, title, text, severity):
    message = make_event_message(event, encode_event(event), event.ts)
    assert (message.title, message.severity) == (title, Severity(severity))
    assert message.text.splitlines()[0] == text
    assert (message.id, message.timestamp, message.late) == (event.id, event.ts, False)
    assert message.events == (encode_event(event),)


@pytest.mark.parametrize("kind", Kind)
def test_every_event_has_words_even_one_that_says_nothing_but_its_type(kind):
    found = parse_event(f'{{"type":"{kind}","svc":"rss_agg","ts":9}}'.encode())
    message = make_event_message(found, b"{}", 9.0)
    assert "rss_agg" in message.title
    assert message.text
    assert "None" not in message.title + message.text


def test_the_message_about_a_job_counts_from_the_run_that_is_missing():
    begun = {"since": 9.0, "down_since": 86_400.0}
    miss = Event(Kind.HEARTBEAT_MISS, "backup", 88_200.0, "a", "healer", reason="overdue", **begun)
    assert "since 1970-01-02 00:00:00 UTC" in make_event_message(miss, b"{}", 88_200.0).text
    ok = Event(Kind.HEARTBEAT_OK, "backup", 93_600.0, "b", "healer", down_sec=7200.0, **begun)
    assert miss.outage_start() == ok.outage_start() == 86_400.0
    assert make_event_message(ok, b"{}", 93_600.0).text.splitlines()[0] == "after 2 h"


def test_what_is_told_late_says_how_late():
    event = Event(Kind.BUS_OK, "market-redis", 9.0, "a", "healer")
    assert not make_event_message(event, b"{}", 9.0 + LATE_SEC - 1).late
    message = make_event_message(event, b"{}", 9.0 + 250)
    assert message.late
    assert message.text == "it answers (told 4 min 10 s late)\nat 1970-01-01 00:00:09 UTC"


def test_the_lines_after_the_first_say_since_when_where_and_what_to_do():
    miss = Event(Kind.HEARTBEAT_MISS, "rss_agg", 99.0, "a", "healer", late_sec=31.2, since=60.0, host="web-3")
    assert make_event_message(miss, b"{}", 99.0, "prod").text.splitlines()[1:] == [
        "since 1970-01-01 00:01:00 UTC on web-3, fleet prod",
        "next: marketswarm health rss_agg",
    ]
    ok = Event(Kind.HEARTBEAT_OK, "rss_agg", 199.0, "b", "healer", down_sec=139.0, since=60.0)
    assert make_event_message(ok, b"{}", 199.0).text.splitlines()[1:] == ["at 1970-01-01 00:03:19 UTC"]


@pytest.mark.parametrize("reason", ["missing", "invalid", "differs"])
def test_who_hears_of_a_drift_first_looks_at_what_a_seeding_would_undo(reason):
    drift = Event(Kind.TRUTH_DRIFT, "market-redis", 9.0, "a", "sentinel", reason=reason)
    text = make_event_message(drift, b"{}", 9.0).text
    assert text.splitlines()[-1] == "next: marketswarm truth diff truth.json"


def test_a_run_that_failed_says_its_exit_code():
    event = Event(Kind.HEARTBEAT_MISS, "backup", 9.0, "a", "healer", reason="failed", exit_code=3)
    message = make_event_message(event, b"{}", 9.0)
    assert message.title == "backup failed"
    assert message.text.splitlines()[0] == "its command ended with exit code 3"
    assert message.text.splitlines()[-1] == "next: marketswarm runs backup"


@pytest.mark.parametrize(
    ("exit_code", "detail", "text"),
    [
        (None, None, "a failure was reported"),
        (None, "disk full", "reported: disk full"),
        (3, "disk full", "its command ended with exit code 3: disk full"),
        (3, "exit 3 after 12.4 s", "its command ended with exit code 3 after 12.4 s"),
        (
            3,
            "exit 3 after 12.4 s: disk full, exit 3 of 5",
            "its command ended with exit code 3 after 12.4 s: disk full, exit 3 of 5",
        ),
        (3, "exit 34", "its command ended with exit code 3: exit 34"),
        (
            143,
            "ended by SIGTERM after 5 s",
            "its command ended with exit code 143: ended by SIGTERM after 5 s",
        ),
        (None, "{svc} <b>@everyone</b>", "reported: {svc} <b>@everyone</b>"),
    ],
)
def test_a_failure_says_its_reason_and_a_command_only_if_there_was_one(exit_code, detail, text):
    event = Event(
        Kind.HEARTBEAT_MISS, "a", 9.0, "a", "healer", reason="failed", exit_code=exit_code, detail=detail
    )
    assert describe_event(event) == ("a failed", text)


def test_a_name_in_a_command_to_type_is_quoted():
    event = Event(Kind.HEARTBEAT_MISS, "$(reboot)", 9.0, "a", "healer")
    assert make_event_message(event, b"{}", 9.0).text.endswith("next: marketswarm health '$(reboot)'")


def test_a_service_that_another_process_runs_now_restarted():
    gap = Event(Kind.HEARTBEAT_GAP, "a", 9.0, "a", "healer", gap_sec=40.0, restarted=True)
    message = make_event_message(gap, b"{}", 9.0)
    assert message.title == "a restarted, and is up"
    assert message.text.startswith("silent for at least 40 s while nobody listened\n")


def test_a_title_and_a_text_make_one_line():
    assert join_words("a is down", "no beat for 30 s") == "a is down: no beat for 30 s"
    assert join_words("a is up again", "after 31 s") == "a is up again, after 31 s"
    assert join_words("a is flapping", "") == "a is flapping"


def test_a_name_is_never_read_as_a_template():
    assert describe_event(Event(Kind.BUS_OK, "{late}{0}", 9.0, "a", "healer"))[0] == "bus {late}{0} is back"


@pytest.mark.parametrize(
    ("reason", "since", "down_since", "words"),
    [
        ("silent", 100.0, None, ("silent since", 100.0)),
        ("stopped", 100.0, None, ("silent since", 100.0)),
        (None, 100.0, None, ("silent since", 100.0)),
        ("never_seen", None, None, ("never heard", None)),
        ("failed", 100.0, 200.0, ("failed since", 200.0)),
        ("failed", 100.0, None, ("failed since", 100.0)),
        ("failed", None, None, ("failed", None)),
        ("overdue", 100.0, 200.0, ("missed its run of", 200.0)),
        ("overdue", None, 200.0, ("missed its run of", 200.0)),
        ("overdue", 100.0, None, ("overdue, no run since", 100.0)),
        ("overdue", None, None, ("overdue, no run ever", None)),
        ("never_ended", 100.0, 200.0, ("never ended, no run since", 100.0)),
    ],
)
def test_an_outage_says_since_when_by_its_reason(reason, since, down_since, words):
    assert describe_outage(reason, since, down_since) == words
