"""The words: short enough for a phone at night, and saying who, since when, and how many."""

import orjson
import pytest

from marketswarm.channels import MessageKind
from marketswarm.event import Kind
from support.simulation.router import Town


def said(town: Town) -> list[str]:
    return [f"{message.title} | {message.text.splitlines()[0]}" for _, message, _ in town.messages]


def test_several_kinds_of_news_in_one_message_say_which_is_whose():
    town = Town("abcd")
    for svc in "ab":
        town.down(svc)
    town.run(60)
    for svc in "ab":
        town.up(svc)
    town.down("c")
    town.down("market-redis", Kind.BUS_MISS)
    town.run(3)
    assert said(town)[-1] == "2 services are down, 2 are up again | down: c, bus market-redis; up again: a, b"
    assert [line.split(":")[0] for line in town.last().lines] == [
        "a is up again, after 90 s",
        "b is up again, after 90 s",
        "c is down",
        "bus market-redis is away",
    ]
    assert town.last().kind is MessageKind.GROUP


def test_what_the_medic_asks_about_a_service_is_said_with_it_and_is_no_service_more():
    town, asked = Town("abc"), "medic/proposed/a"
    town.down("a")
    town.down(asked, Kind.MONITOR_MISS)
    town.run(60)
    town.up("a")
    town.up(asked, Kind.MONITOR_OK)
    town.run(60)
    assert said(town) == [
        "a is down | no beat for 30 s (timeout 30 s); the medic proposes a remedy for a",
        "a is up again | after 90 s; the medic proposes nothing more for a",
    ]
    assert [line.split(" (")[0] for line in town.last().lines] == [
        "a is up again, after 90 s",
        "the medic proposes nothing more for a: it was approved or withdrawn, expired, or is not needed",
    ]
    for svc in ("b", "c", "medic/proposed/b"):
        town.down(svc, Kind.MONITOR_MISS if "/" in svc else Kind.HEARTBEAT_MISS)
    town.run(3)
    assert said(town)[-1] == "2 services are down | b, c; the medic proposes a remedy for b"


def test_a_text_names_ten_and_counts_the_rest_and_the_lines_have_all():
    names = [f"s{n}" for n in range(30)]
    town = Town(names)
    for name in names:
        town.down(name)
    town.run(3)
    assert said(town) == ["30 services are down | s0, s1, s2, s3, s4, s5, s6, s7, s8, s9 and 20 more"]
    assert len(town.last().lines) == 30


@pytest.mark.slow
def test_more_than_five_hundred_lines_are_several_messages_and_nothing_is_left_out():
    names = [f"s{n}" for n in range(1200)]
    town = Town(names)
    for name in names:
        town.down(name)
    town.run(3)
    assert [message.title.split()[0] for _, message, _ in town.messages] == ["500", "500", "200"]
    assert len({message.id for _, message, _ in town.messages}) == 3


def test_what_flaps_says_how_much_in_how_long():
    town = Town()
    town.flap("a", 8, down_sec=3, up_sec=2)
    town.run(1000)
    assert said(town)[2:] == [
        "a is flapping | 7 changes within 15 s; until it settles, single ones are not told",
        "a has settled | it is up",
    ]


def test_what_was_held_back_by_the_rate_limit_is_counted():
    town = Town(rate_limit_max_hold_sec=300)
    town.flap("a", 2, down_sec=20, up_sec=30)
    town.down("a")
    town.run(1000)
    assert town.last().title == "a went down again and again"
    assert town.last().text.startswith("down 2 times more since the last message about it, now for ")


@pytest.mark.parametrize("kind", [Kind.BUS_MISS, Kind.HEALER_MISS, Kind.TRUTH_DRIFT])
def test_what_is_no_service_is_told_in_its_own_words(kind):
    town = Town()
    town.down("market-redis", kind)
    town.run(3)
    assert town.last().opens
    assert town.last().title in (
        "bus market-redis is away",
        "market-redis is down",
        "the truth on market-redis has drifted",
    )


def test_a_line_of_bytes_that_are_no_event_still_says_who():
    town = Town()
    event, _ = town.event(Kind.HEARTBEAT_MISS, "a")
    town.take(event, b"\xff{")
    town.run(3)
    assert town.last().title == "a is down"


def test_a_message_says_since_when_on_which_host_in_which_fleet_and_what_to_type():
    town = Town(("a", "b"), fleet="prod")
    event, raw = town.event(
        Kind.HEARTBEAT_MISS, "a", late_sec=30.0, timeout_sec=30.0, since=town.now - 30, host="web-3"
    )
    town.take(event, raw)
    town.run(1)
    assert town.last().text.splitlines()[1:] == [
        "since 2025-11-06 12:50:28 UTC on web-3, fleet prod",
        "next: marketswarm health a",
    ]
    town.run(900)
    assert town.last().title == "a is still down"
    assert town.last().text.splitlines()[1:] == [
        "since 2025-11-06 12:50:28 UTC on web-3, fleet prod",
        "next: marketswarm ack a",
    ]
    town.up("a")
    town.run(3)
    assert town.last().text.splitlines()[1:] == ["at 2025-11-06 13:05:59 UTC, fleet prod"]


def test_a_group_names_the_host_that_all_have_in_common():
    town = Town()
    for svc, host in (("a", "web-3"), ("b", "web-3")):
        town.take(*town.event(Kind.HEARTBEAT_MISS, svc, late_sec=30.0, since=town.now - 30, host=host))
    town.run(3)
    assert town.last().text.splitlines() == [
        "a, b",
        "since 2025-11-06 12:50:28 UTC on web-3",
        "next: marketswarm status",
    ]
    assert town.last().lines[0].endswith("; since 12:50:28 UTC on web-3")


def restart(town: Town, svc: str) -> None:
    town.take(*town.event(Kind.HEARTBEAT_GAP, svc, gap_sec=40.0, restarted=True, since=town.now - 60))


def test_a_fleet_that_was_restarted_is_one_message_that_shares_nothing_with_a_miss():
    town = Town("abcdex")
    for svc in "abcde":
        restart(town, svc)
        town.run(0.3)
        if svc == "b":
            town.down("x")
    town.run(3)
    assert sorted(town.titles()) == ["5 services restarted, all up", "x is down"]
    [restarted] = [message for _, message, _ in town.messages if "restarted" in message.title]
    assert restarted.text.splitlines()[0] == "a, b, c, d, e"
    assert restarted.kind is MessageKind.NOTE


def test_a_restarted_fleet_of_which_something_is_down_says_so():
    town = Town("abc")
    town.down("a")
    town.run(3)
    for svc in "abc":
        restart(town, svc)
    town.run(3)
    assert town.titles()[-1] == "3 services restarted, 1 of them down"


def test_what_the_rate_limit_holds_back_is_named_with_its_end_in_messages_about_others():
    town = Town(rate_limit_max_hold_sec=300)
    town.flap("a", 2, down_sec=20, up_sec=30)
    assert orjson.loads(town.kept["r:i:a"])["held_until"] == pytest.approx(town.now - 100 + 300.25, abs=0.1)
    town.down("b")
    town.run(1)
    assert town.last().title == "b is down"
    assert "1 more held until 2025-11-06 12:55:58 UTC: a" in town.last().text.splitlines()
    town.run(300)
    town.up("b")
    town.run(1)
    assert "held until" not in town.last().text


# -- the reason of a failure, and services that are watched no more


def fail(town: Town, svc: str, detail: str) -> None:
    town.lost[svc] = town.now
    town.take(*town.event(Kind.HEARTBEAT_MISS, svc, late_sec=1.0, reason="failed", detail=detail))


def test_every_message_about_a_failure_has_its_reason():
    town = Town(
        "ab",
        ("one", "two"),
        remind_sec=(300,),
        rate_limit_sec=0,
        escalate=[{"after_sec": 100, "channels": ["two"]}],
    )
    fail(town, "a", "disk full")
    town.run(700)
    assert [(line.partition(" | ")[0], line.partition("; ")[2]) for line in said(town)[1:]] == [
        ("a is down and not acknowledged", "reported: disk full"),
        ("a is still down", "reported: disk full"),
        ("a is still down", "reported: disk full"),
    ]
    assert said(town)[0] == "a failed | reported: disk full"
    town.up("a")
    town.run(700)
    fail(town, "a", "disk full again")
    town.run(0.1)
    town.up("a")
    town.run(5)
    assert said(town)[-1].endswith("up again | nobody had been told yet; reported: disk full again")
    for svc in "ab":
        fail(town, svc, f"{svc} full")
    town.run(5)
    assert [line.partition("; since")[0] for line in town.last().lines] == [
        "a failed: reported: a full",
        "b failed: reported: b full",
    ]


def test_services_that_left_the_truth_are_not_up_again():
    town = Town("abcd", rate_limit_sec=0)
    for svc in "abc":
        town.down(svc)
    town.run(5)
    town.take(*town.event(Kind.HEARTBEAT_UNWATCHED, "a"))
    town.take(*town.event(Kind.HEARTBEAT_UNWATCHED, "b"))
    town.up("c")
    town.down("d")
    town.run(5)
    assert said(town)[-1] == (
        "1 service is down, 1 is up again, 2 are no longer watched"
        " | down: d; up again: c; no longer watched: a, b"
    )
    town.up("d")
    town.take(*town.event(Kind.BUS_OK, "market-redis", reason="unwatched"))
    town.run(5)
    assert "no longer" not in said(town)[-1], "a bus that nobody was told of is not in it"
    town.down("a")
    town.down("b")
    town.run(5)
    for svc in "ab":
        town.take(*town.event(Kind.HEARTBEAT_UNWATCHED, svc))
    town.run(5)
    assert said(town)[-1] == "2 services are no longer watched | a, b"


def test_a_service_that_flapped_or_was_held_back_and_left_the_truth_is_not_up():
    town = Town("ab", rate_limit_sec=300)
    town.flap("a", 8, down_sec=3, up_sec=2)
    town.down("b")
    town.run(3)
    town.up("b")
    for _ in range(2):  # held back by the rate limit
        town.run(3)
        town.down("b")
        town.run(3)
        town.take(*town.event(Kind.HEARTBEAT_UNWATCHED, "b"))
    town.down("a")
    town.take(*town.event(Kind.HEARTBEAT_UNWATCHED, "a"))
    town.run(1000)
    found = "; ".join(said(town))
    assert "a has settled | it is no longer watched" in found
    assert "in all; it is no longer watched" in found


def test_with_a_zone_the_local_time_stands_before_utc_in_text_and_lines():
    town = Town("ab", time_zone="Europe/Zurich")
    town.down("a")
    town.run(3)
    assert "since 2025-11-06 13:50:27 CET (12:50:27 UTC)" in town.last().text
    town.run(400)
    town.up("a")
    town.down("b")
    town.run(3)
    down = next(line for line in town.last().lines if line.startswith("b is down"))
    assert down.endswith("; since 13:57:10 CET (12:57:10 UTC)"), down


def test_a_message_names_its_machine_or_up_to_three_and_none_if_one_is_unknown():
    for hosts, named in (
        ({"a": "web-3"}, " on web-3"),
        ({"a": "web-3", "b": "web-3"}, " on web-3"),
        ({"a": "web-3", "b": "web-1"}, " on web-1, web-3"),
        ({svc: f"web-{svc}" for svc in "abcde"}, " on web-a, web-b, web-c and 2 more"),
        ({"a": "web-3", "b": None}, ""),
    ):
        town = Town(tuple(hosts))
        for svc, host in hosts.items():
            facts = {"late_sec": 30.01, "timeout_sec": 30.0, "reason": "silent", "host": host}
            town.take(*town.event(Kind.HEARTBEAT_MISS, svc, town.now, **facts))
        town.run(3)
        assert f"UTC{named}\n" in town.last().text
