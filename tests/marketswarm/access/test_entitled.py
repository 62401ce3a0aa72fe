from pathlib import Path

import pytest

from marketswarm.access.entitled import find_entitled
from marketswarm.access.grant import Grant, User, escape_pattern
from marketswarm.access.users import build_users
from marketswarm.agent.service_config import load_with_sections
from marketswarm.truth import MARKET, SYSTEM

TRUTH = load_with_sections((Path(__file__).parents[3] / "truth.json").read_bytes()).truth


@pytest.mark.parametrize(
    ("bus", "command", "users"),
    [
        (SYSTEM, "PUBLISH healer:alerts x", ("healer", "sentinel")),
        (SYSTEM, "xadd healer:alerts:log * event {}", ("healer", "sentinel")),
        (SYSTEM, "SET health:mesh x", ("healer",)),
        (SYSTEM, "SET health:healer x", ("healer", "sentinel")),
        (MARKET, "XADD rss:items * a b", ("rss_agg",)),
        (MARKET, "XREADGROUP GROUP g c STREAMS rss:items >", ("vexy_ai",)),
        (MARKET, "XREAD STREAMS vexy:notes 0", ("vexy_ai",)),
        (SYSTEM, "CONFIG SET maxmemory 1", ()),
        (SYSTEM, "NONSENSE", ()),
        (SYSTEM, "SET nothing:of:ours x", ()),
    ],
)
def test_who_may_send_a_command_follows_from_the_truth(bus, command, users):
    found = find_entitled(build_users(TRUTH, bus), command.split())
    assert tuple(name for name in found if name not in ("bootstrap", "operator")) == users


def test_who_only_reads_by_a_category_counts_if_nobody_does_more():
    reader = User("reader", Grant(""), (Grant("@stream -xgroup", ("log",), mode="R"),))
    writer = User("writer", Grant(""), (Grant("@stream", ("log",)),))
    assert find_entitled([reader, writer], ["XRANGE", "log", "-", "+"]) == ("writer",)
    assert find_entitled([reader], ["XRANGE", "log", "-", "+"]) == ("reader",)
    assert find_entitled([reader], ["XGROUP", "CREATE", "log"]) == ()


def test_a_command_without_keys_and_one_of_a_command_are_found():
    users = [User("a", Grant("ping pubsub|numsub")), User("b", Grant("pubsub"))]
    assert find_entitled(users, ["PUBSUB", "NUMSUB", "x"]) == ("a", "b")
    assert find_entitled(users, ["PUBSUB", "CHANNELS"]) == ("b",)
    assert find_entitled(users, ["PING"]) == ("a",)
    assert find_entitled(users, []) == ()


def test_names_with_characters_of_patterns_match_themselves_alone():
    name = r"a[b]?*\^(c)"
    users = [User("a", Grant(""), (Grant("get", (escape_pattern(name),)),))]
    assert find_entitled(users, ["GET", name]) == ("a",)
    assert find_entitled(users, ["GET", "abxx^(c)"]) == ()
