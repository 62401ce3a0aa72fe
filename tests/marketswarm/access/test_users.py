"""Who gets what, by the text alone; that servers take it so is in tests/live/test_acl.py."""

import hashlib
import inspect
import json
import re
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

from marketswarm import keys as contract
from marketswarm.access.grant import Grant, User, escape_pattern, format_acl_file
from marketswarm.access.users import AclError, build_users, user_names
from marketswarm.keys import ARCHIVE_DEAD
from marketswarm.truth import parse_truth

SHIPPED = parse_truth((Path(__file__).parents[3] / "truth.json").read_bytes()).truth
BUSES = ("system-redis", "market-redis")


def truth(**services):
    return parse_truth(json.dumps({"services": services}).encode()).truth


def of(name, bus="system-redis", document=SHIPPED, **how):
    return next(user for user in build_users(document, bus, **how) if user.name == name)


def may(user, command, *, key=None, channel=None):
    """Whether a user may run a command that is named in some grant, on a key or on a channel."""
    for grant in (user.root, *user.grants):
        if command not in grant.commands.split():
            continue
        patterns, name = (grant.keys, key) if key else (grant.channels, channel)
        if name is None or any(fnmatchcase(name, pattern) for pattern in patterns):
            return True
    return False


def who_may(command, bus="system-redis", **what):
    return {user.name for user in build_users(SHIPPED, bus) if may(user, command, **what)}


def test_everyone_has_a_user_on_each_bus_and_only_default_needs_no_password():
    for bus in BUSES:
        found = build_users(SHIPPED, bus)
        assert [user.name for user in found] == ["default", "operator", "bootstrap", *SHIPPED.services]
        assert [user.name for user in found if not user.needs_password] == ["default"]
    assert set(user_names(SHIPPED)) == {"operator", "bootstrap", *SHIPPED.services}


def test_other_machines_beat_for_their_services_and_do_nothing_else():
    document = truth(backup={}, nginx={}, healer={}, board={})
    joined = of("join", document=document, joining=("backup", "nginx", "board", "healer"))
    for svc in ("backup", "nginx"):
        assert may(joined, "publish", channel=f"{svc}:heartbeat")
        assert all(may(joined, "set", key=f"{kind}:{svc}") for kind in ("beat", "run"))
        assert may(joined, "xadd", key=f"pings:{svc}")
    assert may(joined, "get", key="truth:doc")
    for svc in ("healer", "board", "massive"):  # each has a role, or no section
        assert not may(joined, "publish", channel=f"{svc}:heartbeat")
        assert not may(joined, "set", key=f"beat:{svc}")
    commands = {word for grant in (joined.root, *joined.grants) for word in grant.commands.split()}
    looks = {"get", "strlen", "hmget", "subscribe", "unsubscribe", "punsubscribe"}
    assert commands == looks | {
        "ping",
        "time",
        "select",
        "multi",
        "exec",
        "publish",
        "set",
        "xadd",
        "pexpire",
        *("del", "fcall"),  # for a stream of pings that an entry with the last possible id has ended
    }
    assert "join" not in {user.name for user in build_users(document, BUSES[0])}


def test_beats_are_published_by_their_own_service_by_the_operator_and_for_pings_by_the_board():
    for svc in SHIPPED.services:
        assert who_may("publish", channel=f"{svc}:heartbeat") == {svc, "operator", "board"}
        assert who_may("set", key=f"beat:{svc}") == {svc, "operator", "board"}
        elsewhere = who_may("publish", "market-redis", channel=f"{svc}:heartbeat")
        assert elsewhere == {"operator", "board"}  # not its bus


def test_pings_are_written_by_the_board_and_runs_by_their_service_and_the_operator():
    assert who_may("xadd", key="pings:backup") == {"operator", "board"}
    assert who_may("pexpire", key="pings:rss_agg") == {"rss_agg", "operator", "board"}
    assert who_may("xrange", key="pings:rss_agg") == {"operator", "board"}
    for command in ("hset", "hdel", "hincrby"):  # people make and delete keys on the board's pages
        assert who_may(command, key="board:pings") == {"operator", "board"}
    assert who_may("hset", key="board:tokens") == {"operator"}
    assert who_may("hgetall", key="board:pings") == {"operator", "board"}
    assert who_may("getrange", key="board:checks") == {"board"}
    assert who_may("set", key="board:checks") == {"operator", "board"}


def test_last_runs_are_read_by_the_healer_and_by_who_shows_them():
    assert who_may("getrange", key="run:backup") == {"healer", "operator", "board", "medic"}


def test_alerts_are_published_by_the_monitors_alone():
    assert who_may("publish", channel="healer:alerts") == {"healer", "sentinel"}
    assert who_may("xadd", key="healer:alerts:log") == {"healer", "sentinel"}
    assert who_may("@stream", key="massive:alerts") == {"massive"}
    assert who_may("set", key="health:rss_agg") == {"healer"}
    assert who_may("set", key="health:healer") == {"healer", "sentinel"}


def test_the_log_is_read_by_those_who_tell_people_or_show_it():
    readers = {"operator", "notifier", "sentinel", "mesh", "board", "medic"}
    assert who_may("xrange", key="healer:alerts:log") == readers
    assert who_may("xread", key="healer:alerts:log") == {"operator", "sentinel", "board", "medic"}


def test_the_truth_is_read_by_all_who_have_a_password_and_written_by_those_who_seed():
    for bus in BUSES:
        everyone = {user.name for user in build_users(SHIPPED, bus)}
        assert who_may("get", bus, key="truth:doc") == everyone
        assert who_may("strlen", bus, key="truth:doc") == everyone - {"default", "bootstrap"}
        seeders = {"operator", "bootstrap", "board"}
        assert who_may("set", bus, key="truth:doc") == seeders
        assert who_may("publish", bus, channel="truth:changed") == seeders
        assert who_may("acl|dryrun", bus) == seeders
        assert who_may("function|load", bus) == {"operator", "bootstrap"}


@pytest.mark.parametrize("settings", [{}, {"seed": False}, {"seed": "true"}, {"seed": 1}])
def test_a_board_that_may_not_seed_can_not_write_the_truth(settings):
    board = of("board", document=truth(board={"settings": settings}))
    assert not may(board, "set", key="truth:doc")
    assert not may(board, "publish", channel="truth:changed")
    assert not may(board, "acl|dryrun")
    assert not any(may(board, "fcall", key=key) for key in ("truth:doc", "truth:meta"))


def test_commands_that_harm_a_server_are_nobody_s():
    for bus in BUSES:
        for command in (
            "config",
            "flushall",
            "flushdb",
            "eval",
            "debug",
            "shutdown",
            "client",
            "keys",
        ):
            assert who_may(command, bus) == set()
        # it holds up no server; the board counts and drops what is kept of its answers
        assert who_may("scan", bus) == ({"board"} if bus == "market-redis" else set())
        assert who_may("info", bus) == {"medic", "operator"}
        assert who_may("acl|load", bus) == {"operator"}


def test_a_service_has_its_keys_with_what_lies_beside_them_and_reads_those_of_others():
    document = truth(
        one={"access_points": {"publish_to": [{"bus": "market-redis", "key": "one:out"}]}},
        two={"access_points": {"subscribe_to": [{"bus": "market-redis", "key": "one:out"}]}},
    )
    one, two = (of(svc, "market-redis", document) for svc in ("one", "two"))
    assert may(one, "@stream", key="one:out")
    assert may(one, "@stream", key="one:out:seen:1")
    assert not may(one, "@stream", key="one:outside")
    assert [grant.mode for grant in two.grants if "@stream" in grant.commands.split()] == ["R"]
    assert may(two, "xack", key="one:out")
    assert not may(two, "xadd", key="one:out")
    assert not may(two, "publish", channel="one:out")
    assert may(two, "subscribe", channel="one:out")
    assert not may(of("one", "system-redis", document), "@stream", key="one:out")  # another bus


def test_another_s_heartbeat_among_its_points_gives_no_voice_on_it():
    points = {"publish_to": [{"bus": "system-redis", "key": name} for name in ("b:heartbeat", "nightly")]}
    document = truth(a={"access_points": points}, b={}, c={"heartbeat": {"channel": "nightly"}})
    for channel in ("b:heartbeat", "nightly"):
        assert not may(of("a", document=document), "publish", channel=channel)
    assert may(of("c", document=document), "publish", channel="nightly")
    assert may(
        of("healer", document=truth(healer={}, c={"heartbeat": {"channel": "nightly"}})),
        "subscribe",
        channel="nightly",
    )


def test_who_is_let_into_the_monitors_keys_gets_one_and_nothing_beside_it():
    keys = ("healer:alerts", "healer:alerts:log", "health:x")
    points = {"publish_to": [{"bus": "system-redis", "key": key} for key in keys]}
    user = of("odd", document=truth(odd={"access_points": points}, healer={}))
    assert may(user, "publish", channel="healer:alerts")
    for key in ("healer:alerts", "healer:alerts:log", "healer:alerts:x", "healer:lease", "health:x:y"):
        assert not may(user, "@stream", key=key)
    assert may(user, "@stream", key="health:x")


def test_those_of_ours_have_the_keys_that_they_fall_back_on():
    document = truth(rss_agg={}, vexy_ai={}, massive={}, mesh={})
    for svc, key in (("rss_agg", "rss:items"), ("vexy_ai", "vexy:dead"), ("massive", "probe:x")):
        assert may(of(svc, "market-redis", document), "@stream", key=key)
    assert may(of("mesh", document=document), "@string", key="mesh:topology")
    assert may(of("massive", document=document), "@stream", key="massive:alerts")
    assert not may(of("massive", document=document), "publish", channel="healer:alerts")
    moved = {"publish_to": [{"bus": "market-redis", "key": "news:items"}]}
    user = of("rss_agg", "market-redis", truth(rss_agg={"access_points": moved}))
    assert may(user, "@stream", key="news:items:seen:1")
    assert not may(user, "@stream", key="rss:items")


def test_the_market_is_written_by_one_service_each_and_read_by_those_after_it():
    document = truth(sources={}, bars={}, archive={})
    sources, bars, archive = (of(svc, "market-redis", document) for svc in document.services)
    for user, reads, writes in (
        (sources, (), ("market:bars", "market:downloads", "market:series", "preload:status", "sources:x")),
        (bars, ("market:bars", "preload:status"), ("bars:bars", "bars:indicators", "market:quarantine")),
        (archive, ("bars:bars", "market:downloads", "preload:status"), (ARCHIVE_DEAD,)),
    ):
        assert all(may(user, "@stream", key=key) for key in (*reads, *writes)), user.name
        assert {each for each in reads if can_write(user, each)} == set(), user.name
        assert {each for each in writes if not can_write(user, each)} == set(), user.name
    assert not may(bars, "@stream", key="sources:x")
    assert not may(archive, "@stream", key="market:quarantine")
    # beside what they were taken from: alerts are on the other bus
    of_alerts = of("archive", document=document)
    assert can_write(of_alerts, ARCHIVE_DEAD)
    assert may(of_alerts, "@stream", key="healer:alerts:log")
    assert may(of_alerts, "hset", key="archive:positions")
    assert not may(archive, "hset", key="archive:positions")
    assert not can_write(of_alerts, "healer:alerts:log")


@pytest.mark.parametrize("pattern", ["healer:alerts:log", "healer:*", "*", "market:sources", "market:*"])
def test_a_service_of_one_s_own_has_no_group_on_the_alert_log_nor_on_what_is_no_stream(pattern):
    points = {"subscribe_to": [{"bus": "system-redis", "key": key} for key in (pattern, "one:out")]}
    user = of("odd", document=truth(odd={"access_points": points}))
    for command in ("xreadgroup", "xack", "xgroup|create"):
        assert not may(user, command, key="healer:alerts:log")
        assert not may(user, command, key="market:sources")
        assert may(user, command, key="one:out")


def test_the_operator_reads_what_archive_refused_on_each_bus_where_the_truth_has_it():
    for bus in ("system-redis", "market-redis"):
        operator = of("operator", bus, truth(archive={}))
        for command in ("xrevrange", "fcall"):
            assert may(operator, command, key=ARCHIVE_DEAD)
        assert not may(operator, "xadd", key=ARCHIVE_DEAD)
        assert not may(operator, "xdel", key=ARCHIVE_DEAD)
        assert not may(of("operator", bus), "xrevrange", key=ARCHIVE_DEAD)


def test_the_operator_pauses_sources_and_releases_what_is_in_quarantine_where_the_truth_has_them():
    moved = {"publish_to": [{"bus": "market-redis", "key": "my:quarantine"}]}
    document = truth(sources={}, bars={"access_points": moved})
    operator = of("operator", "market-redis", document)
    assert may(operator, "hgetall", key="market:series")
    for command in ("hset", "del", "fcall"):
        assert may(operator, command, key="sources:breaker:yahoo")
    assert may(operator, "xdel", key="my:quarantine")
    assert not may(operator, "xdel", key="market:quarantine")
    assert may(operator, "xadd", key="market:bars")
    assert not may(operator, "xadd", key="bars:bars")
    assert not may(operator, "xdel", key="market:bars")
    assert not may(operator, "hset", key="market:series")
    for elsewhere in (of("operator", document=document), of("operator", "market-redis")):
        assert not may(elsewhere, "hset", key="sources:breaker:yahoo")
        assert not may(elsewhere, "xadd", key="market:bars")


def test_the_board_reads_the_accounts_of_sources_and_writes_none():
    assert "board" in who_may("hgetall", key="sources:account:kraken", bus="market-redis")
    for command in ("hset", "hdel", "del", "hincrby"):
        assert "board" not in who_may(command, key="sources:account:kraken", bus="market-redis")
    assert "board" not in who_may("hgetall", key="sources:account:kraken")


def can_write(user, key):
    """Whether a user may write a key by a grant of data commands that is not for reading alone."""
    found = [grant for grant in user.grants if "@stream" in grant.commands.split() and grant.mode != "R"]
    return any(fnmatchcase(key, pattern) for grant in found for pattern in grant.keys)


def test_what_lies_where_the_truth_puts_its_neighbour_is_let_in_there():
    points = {"subscribe_to": [{"bus": "system-redis", "key": "news"}]}
    worker = of("vexy_ai", document=truth(vexy_ai={"access_points": points}))
    assert may(worker, "@stream", key="vexy:dead")  # beside what it was taken from
    assert not may(worker, "@stream", key="vexy:notes")
    points = {"publish_to": [{"bus": "system-redis", "key": "net:probes"}]}
    prober = truth(massive={"access_points": points})
    assert may(of("massive", document=prober), "@string", key="probe:x")
    assert not may(of("massive", "market-redis", prober), "@string", key="probe:x")


def test_another_place_for_the_truth_and_for_alerts_is_everyone_s():
    how = {"truth_key": "fleet:truth", "alert_channel": "ops:alerts"}
    document = truth(rss_agg={}, healer={})
    for name in ("default", "operator", "bootstrap", "rss_agg", "healer"):
        user = of(name, document=document, **how)
        assert may(user, "get", key="fleet:truth")
        assert not may(user, "get", key="truth:doc")
    assert may(of("healer", document=document, **how), "publish", channel="ops:alerts")
    with pytest.raises(AclError, match="a blank"):
        build_users(document, "system-redis", truth_key="a b")


def test_a_name_is_a_pattern_of_itself_alone():
    assert escape_pattern("a:b.c-d_é") == "a:b.c-d_é"
    assert escape_pattern("a*[b]?\\^") == r"a\*\[b\]\?\\\^"
    assert escape_pattern("a*[b]", keep_wildcards=True) == r"a*\[b\]"
    assert escape_pattern("a(b)") == "a[(]b[)]"


def test_a_file_has_a_line_a_user_and_of_a_password_its_hash_alone():
    hashes = {name: hashlib.sha256(name.encode()).hexdigest() for name in user_names(SHIPPED)}
    for bus in BUSES:
        lines = format_acl_file(build_users(SHIPPED, bus), hashes).splitlines()
        assert len(lines) == len(hashes) + 1
        for line in lines:
            name = line.split()[1]
            password = "nopass" if name == "default" else f"#{hashes[name]}"
            assert line.startswith(f"user {name} reset on {password} resetchannels -@all +ping")
            inside = re.sub(r" \([^()]+\)", "", line)
            assert "(" not in inside
            assert ")" not in inside
            assert not re.search(r"[+&~](@all|allkeys|allchannels|all|\*)(?= |$)", inside)


def test_a_password_that_is_no_hash_is_refused():
    user = User("a", Grant("ping"))
    with pytest.raises(ValueError, match="hash of a"):
        format_acl_file([user], {"a": "secret"})
    with pytest.raises(KeyError):
        format_acl_file([user], {})
    assert format_acl_file([user], {"a": "0" * 64}).endswith("-@all +ping\n")


def test_the_medic_may_see_how_old_those_keys_are_that_its_rules_name_and_no_other():
    rules = {
        "stale": {"metric": "write_age", "key": "rss:items"},
        "own": {"metric": "write_age", "key": "feed:state"},
        "unwritten": {"metric": "write_age", "key": "secret"},
        "reserved": {"metric": "write_age", "key": "board:checks"},
        "all": {"metric": "write_age", "key": "feed:*"},
        "junk": 5,
        "none": {"key": ["a"]},
    }
    keys = ("feed:state", "board:checks", "feed:*")
    points = {"publish_to": [{"bus": "market-redis", "key": key} for key in keys]}
    document = truth(rss_agg={}, feed={"access_points": points}, medic={"settings": {"rules": rules}})
    here, there = of("medic", "market-redis", document), of("medic", "system-redis", document)
    for key in ("rss:items", "feed:state"):
        assert may(here, "xinfo|stream", key=key)
        assert may(here, "getrange", key=key)
        assert not may(here, "set", key=key)
        assert not may(here, "xrange", key=key)
        assert not may(there, "xinfo|stream", key=key)
    for key in ("secret", "board:checks", "feed:other", "rss:seen"):
        assert not may(here, "xinfo|stream", key=key)
        assert not may(here, "getrange", key=key)
    bare = of("medic", "market-redis", truth(rss_agg={}, medic={"settings": {"rules": []}}))
    assert not may(bare, "xinfo|stream", key="rss:items")


def test_the_medic_may_read_the_results_of_probes_where_massive_writes_them():
    document = truth(massive={}, medic={})
    assert may(of("medic", "market-redis", document), "getrange", key="probe:shop")
    assert not may(of("medic", "market-redis", document), "set", key="probe:shop")
    assert not may(of("medic", "system-redis", document), "getrange", key="probe:shop")
    assert not may(of("medic", "market-redis", truth(medic={})), "getrange", key="probe:shop")


@pytest.mark.parametrize("name", ["board", "operator"])
def test_the_board_and_the_operator_may_read_how_targets_were_and_only_massive_may_write_it(name):
    points = {"publish_to": [{"bus": "system-redis", "key": "net:probes"}]}
    for document, bus, stream in (
        (truth(massive={}, board={}), "market-redis", "massive:probes"),
        (truth(massive={"access_points": points}, board={}), "system-redis", "net:probes"),
    ):
        reader = of(name, bus, document)
        past, failures = f"{stream}:past:shop", f"{stream}:failures:shop"
        assert may(reader, "getrange", key=past)
        assert may(reader, "getrange", key="probe:shop")
        assert may(reader, "lrange", key=failures)
        assert not any(may(reader, "set", key=key) for key in (past, "probe:shop"))
        assert not may(reader, "lpush", key=failures)
        assert may(of("massive", bus, document), "@string", key=past)
    assert may(of(name, "system-redis", document), "hget", key="massive:roster")
    assert not may(of(name, "market-redis", document), "getrange", key=past)
    bare = of(name, "market-redis", truth(board={}))
    assert not may(bare, "getrange", key="massive:probes:past:shop")


def test_the_medic_keeps_its_record_and_has_no_part_in_the_notifiers_group():
    document = truth(medic={}, feed={}, notifier={}, healer={}, board={})
    for bus in BUSES:
        medic = of("medic", bus, document)
        for key in ("medic:state", "medic:approvals"):
            assert may(medic, "hset", key=key)
        assert may(medic, "xadd", key="medic:incidents")
        assert may(medic, "xadd", key="medic:evidence")
        assert not may(medic, "xtrim", key="medic:evidence")
        assert may(medic, "xrevrange", key="medic:incidents")
        assert not may(medic, "xdel", key="medic:incidents")
        assert may(medic, "xrevrange", key="healer:alerts:log")
        assert may(medic, "hgetall", key="healer:roster")
        for key in ("own-lease:medic:healing", "own-lease-epoch:medic:healing", "lease:medic"):
            assert may(medic, "set", key=key)
        assert not may(medic, "set", key="lease:other")
        assert not may(medic, "set", key="own-lease:feed:x")
        assert not may(medic, "publish", channel="feed:heartbeat")
        assert not may(medic, "publish", channel="healer:alerts")
        for command in ("xreadgroup", "xack", "xadd", "xgroup|destroy"):
            assert not may(medic, command, key="healer:alerts:log")
        assert may(medic, "hset", key="medic:alerts:outages")
        assert may(medic, "xadd", key="medic:alerts")
        assert not may(medic, "xrange", key="medic:alerts")
        assert may(of("healer", bus, document), "xread", key="medic:alerts")
        others = [user for user in build_users(document, bus) if user.name != "medic"]
        assert [user.name for user in others if may(user, "hset", key="medic:approvals")] == [
            "operator",
            "board",
        ]
        assert not any(may(user, "hset", key="medic:state") for user in others)
        notifier, is_system = of("notifier", bus, document), bus == "system-redis"
        assert may(notifier, "hget", key="medic:state") is is_system
        assert may(notifier, "exists", key="own-lease:medic:healing") is is_system
        deleters = [user.name for user in others if may(user, "del", key="medic:state")]
        assert deleters == ["operator"], "the way out of docs/services/medic.md"
        assert not may(notifier, "hgetall", key="medic:state")
        assert not may(notifier, "xrevrange", key="medic:incidents")
        readers = [user.name for user in others if may(user, "xrevrange", key="medic:evidence")]
        assert readers == ["operator"], "logs are for people, and for archive"


def test_of_the_market_the_medic_reads_what_its_rules_are_about_and_nothing_else():
    document = truth(medic={}, sources={}, bars={})
    medic = of("medic", "market-redis", document)
    assert may(medic, "hkeys", key="market:sources")
    assert may(medic, "xinfo|stream", key="market:quarantine")
    assert may(medic, "xrange", key="market:quarantine")
    assert may(medic, "hget", key="sources:breaker:yahoo")
    for command, key in [
        ("hset", "market:sources"),
        ("hset", "sources:breaker:yahoo"),
        ("xadd", "market:quarantine"),
        ("xdel", "market:quarantine"),
        ("hkeys", "market:series"),
    ]:
        assert not may(medic, command, key=key)
    assert not may(of("medic", "system-redis", document), "hkeys", key="market:sources")
    assert not may(of("medic", "market-redis", truth(medic={})), "hkeys", key="market:sources")


def test_the_medic_may_delete_a_cache_only_where_the_truth_has_it_clear_one():
    points = {"publish_to": [{"bus": "market-redis", "key": "quotes"}]}
    for ladder, bus, allowed in (
        (["quotes_cache"], "market-redis", True),
        (["quotes_cache"], "system-redis", False),
        (["charts_cache", "restart"], "market-redis", False),  # the service names no such cache
        (None, "market-redis", False),
        ("quotes_cache", "market-redis", False),
    ):
        targets = {"board": {"ladder": ladder}, "other": 1} if ladder is not None else {}
        document = truth(medic={"settings": {"targets": targets}}, board={"access_points": points}, healer={})
        medic = of("medic", bus, document)
        commands = {word for grant in (medic.root, *medic.grants) for word in grant.commands.split()}
        assert ("scan" in commands) is allowed, (ladder, bus)
        assert may(medic, "unlink", key="quotes:SPY") is allowed
        assert not may(medic, "unlink", key="chart:SPY:1m")
        assert not may(medic, "unlink", key="truth:doc")
    for bus in BUSES:
        assert not may(of("medic", bus), "unlink", key="quotes:SPY")


def test_the_medic_may_close_breakers_only_where_the_truth_has_it_resume_sources():
    for svc, bus, allowed in (
        ("sources", "market-redis", True),
        ("sources", "system-redis", False),
        ("feed", "market-redis", False),
    ):
        settings = {"targets": {svc: {"ladder": ["resume_sources"]}}}
        document = truth(medic={"settings": settings}, sources={}, feed={}, healer={})
        medic = of("medic", bus, document)
        assert may(medic, "hdel", key="sources:breaker:yahoo") is allowed
        assert may(medic, "hget", key="sources:breaker:yahoo") is (bus == "market-redis")
        assert not any(may(medic, command, key="sources:breaker:yahoo") for command in ("hset", "del"))


def test_the_medic_may_ask_for_a_backup_only_where_the_truth_has_it_do_so_and_archive_answers():
    for ladder, bus, allowed in (
        (["repeat_backup"], "system-redis", True),
        (["restart"], "system-redis", False),
        (["repeat_backup"], "market-redis", False),
    ):
        settings = {"targets": {"archive": {"ladder": ladder}}}
        document = truth(medic={"settings": settings}, archive={}, healer={})
        medic, archive = of("medic", bus, document), of("archive", bus, document)
        assert may(medic, "set", key="archive:backup:request") is allowed
        assert may(medic, "getrange", key="archive:backup") is (bus == "system-redis")
        assert not may(medic, "set", key="archive:backup")
        assert may(archive, "getrange", key="archive:backup:request") is (bus == "system-redis")
        assert not may(archive, "set", key="archive:backup:request")
        assert may(archive, "set", key="archive:backup") is (bus == "system-redis")
        assert may(archive, "set", key="archive:database") is (bus == "system-redis")
        assert may(medic, "getrange", key="archive:database") is (bus == "system-redis")
        assert not may(medic, "set", key="archive:database")


def test_the_medic_may_ask_for_new_connections_only_whom_a_ladder_names_and_those_answer():
    settings = {"targets": {"board": {"ladder": ["reconnect"]}, "archive": {"ladder": ["restart"]}}}
    document = truth(medic={"settings": settings}, archive={}, board={}, feed={}, healer={})
    for bus in ("system-redis", "market-redis"):
        is_system = bus == "system-redis"
        medic = of("medic", bus, document)
        assert may(medic, "set", key="board:reconnect:request") is is_system
        assert may(medic, "getrange", key="board:reconnect") is is_system
        assert not may(medic, "set", key="board:reconnect")
        assert not may(medic, "set", key="archive:reconnect:request")
        for svc in ("archive", "board"):
            user = of(svc, bus, document)
            assert may(user, "getrange", key=f"{svc}:reconnect:request") is is_system
            assert may(user, "set", key=f"{svc}:reconnect") is is_system
            assert not may(user, "set", key=f"{svc}:reconnect:request")
            other = "board" if svc == "archive" else "archive"
            assert not may(user, "set", key=f"{other}:reconnect")
        assert not may(of("feed", bus, document), "set", key="board:reconnect:request")


def test_the_medic_may_pause_sources_only_where_the_truth_has_it_do_so():
    for svc, bus, allowed in (
        ("sources", "market-redis", True),
        ("sources", "system-redis", False),
        ("feed", "market-redis", False),
    ):
        settings = {"targets": {svc: {"ladder": ["pause_source"]}}}
        document = truth(medic={"settings": settings}, sources={}, feed={}, healer={})
        medic = of("medic", bus, document)
        assert may(medic, "hset", key="sources:breaker:yahoo") is allowed
        assert may(medic, "hget", key="market:series") is allowed
        assert not any(may(medic, command, key="sources:breaker:yahoo") for command in ("hdel", "del", "set"))
        assert not may(medic, "hset", key="market:sources")


def test_the_medic_may_seed_only_where_the_truth_has_it_roll_back():
    for ladder, allowed in ((["roll_back_truth"], True), (["restart"], False), ("roll_back_truth", False)):
        settings = {"targets": {"feed": {"ladder": ladder}}}
        document = truth(medic={"settings": settings}, feed={}, healer={})
        for bus in BUSES:
            medic = of("medic", bus, document)
            assert may(medic, "set", key="truth:doc") is allowed
            assert may(medic, "publish", channel="truth:changed") is allowed
            assert may(medic, "xadd", key="board:audit") is (allowed and bus == "system-redis")
            assert not may(medic, "xrange", key="board:audit")
            assert not may(medic, "function|load")


LEADS = re.compile("lease|members", re.IGNORECASE)
OF_ALL = {contract.lease_key, contract.lease_epoch_key}
"""The leases for which any service may ask; none of our own services leads by one of these."""
OWNED_BY = {"listener": ("healer", "sentinel"), "svc": None}
"""By the parameter of a function of `keys.py` that names the owner of its key: who may be that, or None."""
STATION = parse_truth((Path(__file__).parents[3] / "examples/market.json").read_bytes()).truth
ODD = truth(
    **{key: {} for key in ("lease", "members", "own-lease", "a", "a.b", "a-b", "medic2", "nightly")},
    **{key: {} for key in ("healer", "sentinel", "notifier", "medic", "mesh", "board")},
    greedy={"access_points": {"publish_to": [{"bus": "system-redis", "key": key} for key in ("a", "own")]}},
)


def list_leader_keys(document):
    """Return what `keys.py` names that decides who leads or shares: (owner, key)."""
    found = [
        (key.partition(":")[0], key)
        for name, key in vars(contract).items()
        if LEADS.search(name) and isinstance(key, str) and ":" in key
    ]
    for name, make in inspect.getmembers(contract, inspect.isfunction):
        if not LEADS.search(name) or make in OF_ALL:
            continue
        owner, *rest = inspect.signature(make).parameters
        owners = OWNED_BY[owner] or document.services
        found += [
            (each, make(each, *words))
            for each in owners
            for words in (["x"] * len(rest), ["x:y"] * len(rest))
        ]
    return dict.fromkeys(found)


def writes(user, key):
    """Return the commands by which a user may change a key; what a call may do, other grants say."""
    return [
        grant.commands
        for grant in user.grants
        if grant.mode != "R" and not grant.commands.startswith("fcall")
        if any(fnmatchcase(key, pattern) for pattern in grant.keys)
    ]


@pytest.mark.parametrize("document", [SHIPPED, STATION, ODD], ids=["shipped", "station", "odd"])
def test_no_user_but_its_owner_may_write_the_key_or_the_channel_by_which_a_part_leads(document):
    owned = list_leader_keys(document)
    assert {("healer", "healer:lease"), ("notifier", "notifier:lease")} <= owned.keys()
    assert {(svc, f"own-lease:{svc}:x") for svc in document.services} <= owned.keys()
    for bus in BUSES:
        users = build_users(document, bus)
        others = [(owner, key, user) for owner, key in owned for user in users if user.name != owner]
        assert [(user.name, key) for _, key, user in others if writes(user, key)] == []
        assert [
            (user.name, key)
            for _, key, user in others
            for grant in user.grants
            if "publish" in grant.commands.split() and any(fnmatchcase(key, one) for one in grant.channels)
        ] == []


def test_none_of_our_parts_leads_by_a_lease_that_any_service_may_write():
    root = Path(__file__).parents[3]
    parts = ("services", "healer", "sentinel", "notifier", "bootstrap")
    sources = {path: path.read_text("utf-8") for part in parts for path in (root / part).rglob("*.py")}
    asks = re.compile(r"\bme\.lease\(|\b(lease_key|lease_epoch_key)\(|\bLease\(\"")
    assert [str(path) for path, text in sources.items() if asks.search(text)] == []
    assert len(sources) > 200


@pytest.mark.parametrize("document", [SHIPPED, STATION, ODD], ids=["shipped", "station", "odd"])
def test_a_service_has_its_own_leases_and_those_of_all_on_each_bus(document):
    for bus in BUSES:
        for svc in set(document.services) - {"healer", "sentinel", "notifier", "mesh", "board"}:
            user = of(svc, bus, document)
            for key in (contract.own_lease_key(svc, "x:y"), contract.own_lease_epoch_key(svc, "x")):
                assert all(
                    may(user, word, key=key) for word in ("type", "get", "set", "del", "hset", "pexpire")
                )
            assert may(user, "publish", channel=contract.own_lease_key(svc, "x"))
            assert may(user, "subscribe", channel=contract.own_lease_key(svc, "x"))
            assert may(user, "hset", key="lease:nightly") is (svc != "medic")
