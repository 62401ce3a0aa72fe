"""Silences as a user sets, sees and ends them, on buses that come and go."""

import getpass
import time

import orjson
import pytest

from marketswarm.keys import NOTIFIER_SILENCES
from marketswarm.operator.silences import Silence
from support.rig.shell import SERVICES

pytestmark = pytest.mark.live

FOR_TWO_HOURS = ("--for", "2h", "--why", "new disks", "--by", "kim")


def held(bus):
    """The silences on a bus, by id."""
    found = {key: Silence.parse(raw.encode()) for key, raw in bus.cmd("HGETALL", NOTIFIER_SILENCES).items()}
    assert all(found.values())
    return found


def only(bus):
    (silence,) = held(bus).values()
    return silence


@pytest.fixture
def tagged(shell, buses):
    shell.write({"services": SERVICES | {"feed-1": {"tags": ["ingest"]}, "feed-2": {"tags": ["ingest"]}}})
    assert shell("seed").returncode == 0
    return buses


def test_a_silence_is_on_every_bus_and_says_until_when_and_whom_it_is_on(shell, tagged):
    begun = time.time()
    ended = shell("silence", "rss_*", "mesh", "--tag", "ingest", *FOR_TWO_HOURS)
    assert ended.returncode == 0, ended.stderr
    silence = only(tagged[0])
    assert only(tagged[1]) == silence
    assert begun - 0.001 <= silence.starts_at <= time.time()
    assert silence.ends_at == pytest.approx(silence.starts_at + 7200, abs=0.002)
    assert (silence.author, silence.reason) == ("kim", "new disks")
    assert (silence.services, silence.tags) == (("rss_*", "mesh"), ("ingest",))
    first, second = ended.stdout.splitlines()
    assert first.startswith(f"silence {silence.id} until ")
    assert first.endswith(", 2 h from now")
    assert set(second.removeprefix("on ").split(", ")) == {"rss_agg", "mesh", "feed-1", "feed-2"}


def test_until_when_is_said_by_the_clock_on_the_wall(shell, tagged):
    said = shell("silence", "mesh", *FOR_TWO_HOURS, TZ="Asia/Kathmandu").stdout
    ends_at = only(tagged[0]).ends_at
    east = time.gmtime(ends_at + 5.75 * 3600)
    assert time.strftime("%H:%M,", east) in said


def test_whoever_is_logged_in_is_the_author_if_nobody_else_is_named(shell, seeded):
    shell("silence", "mesh", "--for", "5m", "--why", "x", LOGNAME="robin")
    assert only(seeded[0]).author == "robin"
    shell.env.pop("LOGNAME", None)
    shell("silence", "rss_agg", "--for", "5m", "--why", "x")
    assert getpass.getuser() in {each.author for each in held(seeded[0]).values()}


def test_a_name_that_the_truth_does_not_know_is_refused_with_the_nearest_one(shell, seeded):
    ended = shell("silence", "rss_ag", *FOR_TWO_HOURS)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert "no silence was set: the truth names no rss_ag; did you mean rss_agg?" in ended.stderr
    assert held(seeded[0]) == {}


def test_a_pattern_that_is_on_nothing_is_set_and_says_so(shell, seeded):
    ended = shell("silence", "feed-*", *FOR_TWO_HOURS)
    assert ended.returncode == 0
    assert len(ended.stdout.splitlines()) == 1
    assert ended.stderr == "marketswarm: it is on nothing: nothing in the truth is feed-*\n"
    assert only(seeded[0]).services == ("feed-*",)


def test_everything_is_the_buses_too(shell, seeded):
    assert "market-redis" in shell("silence", "*", *FOR_TWO_HOURS).stdout


def test_nobody_has_to_think_of_a_reason_and_a_year_is_a_time(shell, buses):
    assert shell("silence", "mesh", "--for", "1y", "--by", "kim").returncode == 0
    silence = only(buses[0])
    assert silence.reason == "no reason given"
    assert silence.ends_at - silence.starts_at == pytest.approx(365 * 86_400, abs=0.002)


def test_without_a_truth_it_is_set_all_the_same(shell, buses):
    ended = shell("silence", "mesh", *FOR_TWO_HOURS)
    assert ended.returncode == 0
    assert "there is no truth that tells" in ended.stdout
    assert only(buses[0]) == only(buses[1])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["mesh", "--why", "x"], "--for"),
        (["mesh", "--for", "2h", "--why", " "], "--why"),
        (["mesh", "--for", "0s", "--why", "x"], "--for"),
        (["mesh", "--for", "2y", "--why", "x"], "at most a year"),
        (["mesh", "--for", "2q", "--why", "x"], "2q"),
        (["mesh", "--for", "500d", "--why", "x"], "at most a year"),
        (["--for", "2h", "--why", "x"], "on what?"),
        (["", "--for", "2h", "--why", "x"], "PATTERN"),
        (["mesh", "--for", "2h", "--why", "x", "--by", "a\x1bb"], "--by"),
    ],
)
def test_an_end_and_something_to_be_on_are_needed_and_what_is_said_is_said_in_full(shell, words, said):
    ended = shell("silence", *words)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert said in " ".join(ended.stderr.replace("│", "").split())


def test_with_a_bus_away_it_is_set_on_the_other_and_says_so(shell, seeded):
    seeded[1].stop()
    ended = shell("silence", "mesh", *FOR_TWO_HOURS)
    assert ended.returncode == 0
    assert "bus market-redis did not take it: refused" in ended.stdout
    assert only(seeded[0]).services == ("mesh",)


def test_a_bus_that_was_away_is_given_with_the_next_one_what_it_lacks(shell, seeded):
    seeded[1].stop()
    shell("silence", "mesh", *FOR_TWO_HOURS)
    seeded[1].start()
    shell("silence", "rss_agg", *FOR_TWO_HOURS)
    assert held(seeded[0]) == held(seeded[1])
    assert len(held(seeded[1])) == 2


@pytest.mark.parametrize(
    "command",
    [["silence", "mesh", *FOR_TWO_HOURS], ["silences"], ["unsilence", "x"], ["ack", "mesh"], ["dead"]],
    ids=lambda command: command[0],
)
def test_with_no_bus_at_all_it_ends_with_3_and_says_how_to_go_on(shell, command):
    ended = shell(
        *command, SYSTEM_REDIS_URL="redis://127.0.0.1:1", MARKET_REDIS_URL="redis://user:hunter2@127.0.0.1:1"
    )
    assert (ended.returncode, ended.stdout) == (3, "")
    assert "no bus answered. Tried:" in ended.stderr
    assert "  system-redis at 127.0.0.1:1: refused" in ended.stderr
    assert "hunter2" not in ended.stderr


def test_buses_that_answer_and_take_nothing_are_named(shell, seeded):
    for bus in seeded:
        bus.cmd("CONFIG", "SET", "min-replicas-to-write", "1")
    ended = shell("silence", "mesh", *FOR_TWO_HOURS)
    assert (ended.returncode, ended.stdout) == (3, "")
    assert "no bus took it" in ended.stderr
    assert "system-redis: readonly" in ended.stderr


def test_those_in_force_are_shown_and_with_all_those_that_are_over(shell, seeded):
    assert shell("silences").stdout == "no silence is in force\n"
    half_a_minute_over = ("--for", "9030s")  # so that its minutes are the same a moment later
    shell("silence", "rss_*", "--why", "new disks", "--by", "kim", *half_a_minute_over)
    now = time.time()
    old = Silence(
        id="old", starts_at=now - 99, ends_at=now - 9, author="robin", reason="moved \x1b[31m",
        changed_at=now - 99, tags=("probe",),
    )  # fmt: skip
    seeded[1].cmd("HSET", NOTIFIER_SILENCES, "old", old.encode())
    (head, shown) = shell("silences").stdout.splitlines()
    assert head.split() == ["id", "until", "left", "on", "by", "why"]
    assert shown.split()[0] == next(iter(held(seeded[0])))
    assert "2 h 30 min" in shown
    assert shown.split()[-4:] == ["rss_*", "kim", "new", "disks"]
    everything = shell("silences", "--all").stdout
    assert "tag probe" in everything
    assert "over" in everything
    assert "\x1b" not in everything


def test_for_programs_they_are_json(shell, seeded):
    assert orjson.loads(shell("silences", "--json").stdout) == []
    shell("silence", "rss_*", *FOR_TWO_HOURS)
    (shown,) = orjson.loads(shell("silences", "--json").stdout)
    assert shown["active"] is True
    assert shown["services"] == ["rss_*"]
    assert shown["id"] == only(seeded[0]).id


def test_rubbish_among_them_hides_none(shell, seeded):
    seeded[0].cmd("HSET", NOTIFIER_SILENCES, "x", b"\xff{", "y", "{}")
    shell("silence", "mesh", *FOR_TWO_HOURS)
    assert len(orjson.loads(shell("silences", "--json").stdout)) == 1


def test_a_silence_that_is_ended_is_over_on_every_bus(shell, seeded):
    shell("silence", "mesh", *FOR_TWO_HOURS)
    ident = only(seeded[0]).id
    ended = shell("unsilence", ident)
    assert ended.returncode == 0
    assert f"silence {ident} on mesh has ended" in ended.stdout
    assert all(only(bus).has_ended(time.time()) for bus in seeded)
    assert shell("silences").stdout == "no silence is in force\n"
    assert f"silence {ident} on mesh ended at" in shell("unsilence", ident).stdout


def test_one_that_was_ended_while_a_bus_was_away_does_not_come_back(shell, seeded):
    shell("silence", "mesh", *FOR_TWO_HOURS)
    seeded[1].stop()
    ended = shell("unsilence", only(seeded[0]).id)
    assert "bus market-redis did not take it: refused" in ended.stdout
    seeded[1].start()
    assert not only(seeded[1]).has_ended(time.time())
    assert shell("silences").stdout == "no silence is in force\n"


def test_one_that_is_not_there_is_not_ended_and_those_there_are_are_named(shell, seeded):
    ended = shell("unsilence", "nope")
    assert ended.returncode == 2
    assert "no silence has the id nope; there is none in force" in ended.stderr
    shell("silence", "mesh", *FOR_TWO_HOURS)
    assert f"those there are: {only(seeded[0]).id}" in shell("unsilence", "nope").stderr


def test_one_that_ended_a_month_ago_is_forgotten(shell, seeded):
    now = time.time()
    old = Silence(
        id="old", starts_at=now - 3e6, ends_at=now - 2.7e6, author="a", reason="b", changed_at=now - 3e6,
        services=("x",),
    )  # fmt: skip
    seeded[0].cmd("HSET", NOTIFIER_SILENCES, "old", old.encode())
    shell("silence", "mesh", *FOR_TWO_HOURS)
    assert "old" not in held(seeded[0])


def test_status_tells_of_them(shell, seeded):
    assert "silent" not in shell("status").stdout
    for svc in ("a*", "b*", "c*", "d*"):
        shell("silence", svc, *FOR_TWO_HOURS)
    said = shell("status").stdout
    assert "a* (kim: new disks)" in said
    assert "and 1 more silences: `marketswarm silences`" in said
    assert len(orjson.loads(shell("status", "--json").stdout)["silences"]) == 4
