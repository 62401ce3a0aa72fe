"""What containers may suffer: crashes, a stop, a bus that is away, a network that is cut.

A crash is kill -9 of a container's main process: for the engine it ended by itself. `docker kill` is what
somebody wants: what was killed so stays down until it is started.
"""

import contextlib
import sys
import time

import pytest

from support.pages import get_command
from support.rig.compose import (
    AGENTS,
    BUSES,
    HASTY_SEC,
    PAGE,
    Project,
    Subscriber,
    begins_anew,
    patiently,
)
from support.waiting import fault_lasts

IN_TIME_SEC = dict.fromkeys(BUSES, 8.0) | dict.fromkeys(AGENTS, 18.0)
"""How many seconds each may be away and not be missed, less two.

The shipped truth gives a bus ten, and an agent thirty from its last beat, which may be ten seconds old.
"""
HEARD = tuple(svc for svc in AGENTS if svc != "healer")
ONE_CRASHES = "one of each kind crashes and one is cut off in every run; tests/faults has the outages"
in_nightly = pytest.mark.nightly(ONE_CRASHES)
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="kills processes of containers by their pid")


def kinds(events: list[dict]) -> dict[str, list[str]]:
    """What was told about each, in order: `{"rss_agg": ["heartbeat_miss", "heartbeat_ok"]}`.

    That a healer reached no bus is kept apart: of the healer itself the sentinel tells, at its own time.
    """
    found: dict[str, list[str]] = {}
    for event in events:
        about = "buses" if event["type"] == "reach_gap" else event["svc"]
        found.setdefault(about, []).append(event["type"])
    return found


def outage(*svcs: str) -> dict[str, list[str]]:
    """What is to be told of an outage of these, and nothing else: a miss and an ok of each."""
    words = {svc: {"healer": "healer"}.get(svc, "bus" if svc in BUSES else "heartbeat") for svc in svcs}
    return {svc: [f"{word}_miss", f"{word}_ok"] for svc, word in words.items()}


def told_of(fleet: Project, begun: int, wanted: dict[str, list[str]], *, restarted: bool = False) -> None:
    """Waits until this was told since then, and nothing else but, if they were, that services restarted.

    Of that a healer tells which did not listen meanwhile; on a busy machine it may stand still for a moment.
    """

    def told() -> dict[str, list[str]]:
        events = fleet.told()[begun:]
        gaps = [event for event in events if event["type"] == "heartbeat_gap" and event["restarted"]]
        return kinds([event for event in events if not restarted or event not in gaps])

    try:
        patiently(lambda: told() == wanted, 90)
    except AssertionError:
        assert told() == wanted, fleet.told()[begun:]


def nobody_is_deaf(fleet: Project) -> None:
    counts = fleet.ask("PUBSUB", "NUMSUB", *(f"{svc}:heartbeat" for svc in HEARD))[1::2]
    assert min(counts) >= 1


@pytest.mark.parametrize(
    "crashing",
    [
        pytest.param(("rss_agg", "healer", "market-redis"), id="one-of-each-kind"),
        pytest.param((*AGENTS, *BUSES), id="all", marks=in_nightly),
    ],
)
def test_one_container_after_the_other_crashes_and_is_back_before_anybody_misses_it(fleet, crashing):
    begun, away = len(fleet.told()), {}
    with contextlib.ExitStack() as ends:
        heard = {
            svc: ends.enter_context(contextlib.closing(fleet.beats(svc))) for svc in crashing if svc in AGENTS
        }
        for svc in crashing:
            before, at = fleet[svc], time.monotonic()
            before.kill()
            patiently(lambda old=before: fleet[old.service].restarts > old.restarts, 60, f"{svc} again")
            if svc in heard:
                begins_anew(heard[svc], at)
            else:
                patiently(lambda bus=svc: fleet.answers(bus), 60, f"an answer of {svc}")
            away[svc] = time.monotonic() - at
    fleet.healthy()
    # an engine on a busy machine may need longer for a restart than the shipped truth gives
    late = {svc for svc, sec in away.items() if sec > IN_TIME_SEC[svc]}
    assert late < away.keys()
    if late & {*BUSES, "healer"}:
        late.add("buses")
    patiently(lambda: len(fleet.told()) >= begun, 60, "a bus that answers")
    assert {svc: told for svc, told in kinds(fleet.told()[begun:]).items() if svc not in late} == {}, away
    nobody_is_deaf(fleet)


def test_a_forced_reseed_brings_a_new_truth_into_both_buses(hasty):
    assert [hasty.ask("GET", "truth:doc", bus=bus) for bus in BUSES] == [hasty.truth.read_text("utf-8")] * 2
    assert {hasty.revision(bus) for bus in BUSES} == {2}


@pytest.mark.needs("redis-cli", "make")
def test_a_simulated_failure_is_seen_by_who_subscribes_as_the_runbook_and_as_make_does_it(hasty, tmp_path):
    with Subscriber(hasty.here(get_command(PAGE, "Quick status", "SUBSCRIBE")), tmp_path / "alerts") as tail:
        patiently(lambda: "healer:alerts" in tail.text(), 10, "a subscription")
        hasty.script(get_command(PAGE, "Simulate a failure", "stop"))
        patiently(lambda: tail.outages("rss_agg"), 60, "the miss")
        hasty.script(get_command(PAGE, "Simulate a failure", "start"))
        patiently(lambda: len(tail.outages("rss_agg")) > 1, 30, "the ok")
        hasty.make("simulate", "SVC=mesh")
        patiently(lambda: len(tail.outages("mesh")) > 1, 30, "both of another one")
        miss, ok = tail.outages("rss_agg")
        others = tail.outages("mesh")
    assert (miss["type"], miss["timeout_sec"], miss["reason"]) == ("heartbeat_miss", HASTY_SEC, "stopped")
    assert miss["late_sec"] >= HASTY_SEC
    assert ok["type"] == "heartbeat_ok"
    assert list(miss)[:5] == ["type", "svc", "late_sec", "timeout_sec", "ts"]
    assert [event["type"] for event in others] == ["heartbeat_miss", "heartbeat_ok"]


@in_nightly
@pytest.mark.parametrize("crashing", [HEARD, ("healer",)], ids=["all-but-the-healer", "the-healer"])
def test_who_crashes_again_and_again_is_told_once_and_once_more_when_it_stays(hasty, crashing):
    begun = len(hasty.told())

    def missed() -> bool:
        containers = hasty.containers()
        # after it: one that came back from its miss meanwhile would be killed into another
        told = {event["svc"] for event in hasty.told()[begun:] if event["type"].endswith("_miss")}
        for container in containers.values():
            if container.service in crashing and container.service not in told and container.pid:
                with contextlib.suppress(ProcessLookupError):  # it ended meanwhile
                    container.kill()
        return told >= set(crashing)

    patiently(missed, 90, f"a miss of {crashing}")
    told_of(hasty, begun, outage(*crashing), restarted=True)
    hasty.healthy()
    told_of(hasty, begun, outage(*crashing), restarted=True)
    misses = [event for event in hasty.told()[begun:] if event["type"] == "heartbeat_miss"]
    assert {event["reason"] for event in misses} <= {"silent"}
    nobody_is_deaf(hasty)


@pytest.mark.parametrize("svc", ["rss_agg", pytest.param("healer", marks=in_nightly)])
def test_who_is_cut_off_the_network_is_missed_and_back_when_joined_again(hasty, svc):
    begun, before = len(hasty.told()), hasty[svc]
    # a healer that is cut off sees no bus: it says so once it is back, and blames none
    wanted = outage(svc) | ({"buses": ["reach_gap"]} if svc == "healer" else {})
    hasty.run("docker", "network", "disconnect", hasty.network, before.id)
    try:
        patiently(lambda: svc in kinds(hasty.told()[begun:]), 40, f"a miss of {svc}")
        if svc == "healer":
            fault_lasts(HASTY_SEC)  # what it sees itself can't be asked; it says so once it is back
    finally:
        hasty.run("docker", "network", "connect", hasty.network, before.id)
    told_of(hasty, begun, wanted)
    hasty.healthy()
    told_of(hasty, begun, wanted)
    nobody_is_deaf(hasty)
