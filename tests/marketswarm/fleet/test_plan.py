from pathlib import Path

import orjson
import pytest
from redis.asyncio.connection import parse_url

from marketswarm.fleet.plan import (
    PlanError,
    PlannedAgent,
    find_missed,
    find_next_metrics_port,
    make_plan,
    plan_added_agents,
)
from marketswarm.truth import parse_truth

MODULES = {"a": "services.a", "healer": "healer"}


def truth(*services: str, **more):
    document = {
        "services": {svc: {"heartbeat": {"redis_url": "redis://system-redis:6379"}} for svc in services}
    }
    return parse_truth(orjson.dumps(document | more)).truth


def plan(document, **options):
    return make_plan(document, **({"known": {}, "modules": MODULES, "port": 6379} | options))


def test_two_buses_are_ours_on_the_port_and_the_next():
    buses = plan(truth("a")).buses
    assert [(bus.name, bus.url, bus.port) for bus in buses] == [
        ("system-redis", "redis://127.0.0.1:6379", 6379),
        ("market-redis", "redis://127.0.0.1:6380", 6380),
    ]


def test_a_bus_that_runs_elsewhere_gets_no_server_and_takes_no_place_from_the_other():
    drawn = plan(truth("a"), known={"system-redis": "redis://far:1"}, port=7000)
    assert [(bus.url, bus.port) for bus in drawn.buses] == [
        ("redis://far:1", None),
        ("redis://127.0.0.1:7001", 7001),
    ]
    assert drawn.environ() == {"MARKET_REDIS_URL": "redis://127.0.0.1:7001"}


def test_a_fleet_that_listens_for_others_reaches_its_own_servers_over_tls():
    drawn = plan(truth("a"), known={"system-redis": "redis://far:1"}).use_tls(Path("/a b/own.pem"))
    assert [bus.url.partition("?")[0] for bus in drawn.buses] == ["redis://far:1", "rediss://127.0.0.1:6380"]
    options = parse_url(drawn.buses[1].url)
    assert options["ssl_ca_certs"] == "/a b/own.pem"
    assert options["ssl_check_hostname"] is False


def test_a_declared_bus_gets_a_server_too():
    document = truth("a", buses={"third-redis": {"url": "redis://third-redis:6379"}})
    third = plan(document).buses[2]
    assert (third.name, third.port, third.variable) == ("third-redis", 6381, "THIRD_REDIS_URL")


def test_a_bus_that_is_but_an_address_gets_none():
    document = parse_truth(
        orjson.dumps({"services": {"a": {"heartbeat": {"redis_url": "redis://10.0.0.9:6379"}}}})
    ).truth
    drawn = plan(document, known={"10.0.0.9:6379": "redis://10.0.0.9:6379"})
    assert (drawn.buses[2].url, drawn.buses[2].port) == ("redis://10.0.0.9:6379", None)


MARKET = {name: f"services.{name}" for name in ("sources", "bars", "archive", "board")}


def market(*services: str, **sections):
    document = {"services": {svc: {"depends_on": ["sources"]} for svc in services}}
    document["services"] |= {"sources": {}, "board": {}} | sections
    return parse_truth(orjson.dumps(document)).truth


def test_who_depends_on_sources_starts_after_their_gate():
    drawn = plan(market("bars", "archive"), modules=MARKET)
    assert drawn.gated == {"bars", "archive"}
    assert drawn.needs_database


def test_there_is_no_gate_without_sources_here():
    assert plan(market("bars"), modules=MARKET, only=["bars"]).gated == frozenset()
    elsewhere = {name: module for name, module in MARKET.items() if name != "sources"}
    assert plan(market("bars"), modules=elsewhere).gated == frozenset()


def test_a_fleet_without_an_archive_needs_no_database():
    assert not plan(market("bars"), modules=MARKET).needs_database
    assert not plan(market("archive"), modules=MARKET, only=["sources"]).needs_database


def test_a_service_without_a_module_is_left_to_others():
    drawn = plan(truth("a", "b", "healer"))
    assert [agent.module for agent in drawn.agents] == ["services.a", "healer"]
    assert drawn.elsewhere == ("b",)


def test_only_those_asked_for_are_started_in_the_order_of_the_truth():
    drawn = plan(truth("a", "b", "healer"), only=["healer", "a"])
    assert [agent.svc for agent in drawn.agents] == ["a", "healer"]
    assert drawn.elsewhere == ()


def test_each_service_has_its_own_port_for_metrics_which_stays_when_others_are_left_out():
    everyone = plan(truth("a", "b", "healer"), metrics_port=9100)
    assert {agent.svc: agent.metrics_port for agent in everyone.agents} == {"a": 9100, "healer": 9102}
    [healer] = plan(truth("a", "b", "healer"), metrics_port=9100, only=["healer"]).agents
    assert (healer.metrics_port, healer.environ()) == (9102, {"METRICS_PORT": "9102"})
    assert all(agent.environ() == {} for agent in plan(truth("a", "healer")).agents)


def replicated(**services):
    return parse_truth(orjson.dumps({"services": services})).truth


def test_a_service_has_as_many_processes_as_the_truth_says_each_with_a_name_of_its_own():
    drawn = plan(replicated(a={"replicas": 3}, healer={"replicas": 1}, b={"replicas": 2}))
    assert [(agent.name, agent.svc, agent.module) for agent in drawn.agents] == [
        ("a", "a", "services.a"),
        ("a/2", "a", "services.a"),
        ("a/3", "a", "services.a"),
        ("healer", "healer", "healer"),
    ]
    assert drawn.elsewhere == ("b",)


def test_no_two_processes_have_one_port_for_metrics_and_none_moves_when_others_are_left_out():
    document = replicated(a={"replicas": 3}, b={"replicas": 2}, healer={"replicas": 2}, c={})
    modules = {svc: svc for svc in document.services}
    whole = plan(document, metrics_port=9100, modules=modules)
    ports = {agent.name: agent.metrics_port for agent in whole.agents}
    assert ports == {
        "a": 9100, "b": 9101, "healer": 9102, "c": 9103,
        "a/2": 9104, "a/3": 9105, "b/2": 9106, "healer/2": 9107,
    }  # fmt: skip
    for only in ("a", "b", "healer", "c"):
        part = plan(document, metrics_port=9100, modules=modules, only=[only])
        assert {agent.name: agent.metrics_port for agent in part.agents}.items() <= ports.items()
    with pytest.raises(PlanError, match="METRICS_PORT: healer/2 would be on port 65536"):
        plan(document, metrics_port=65_529, modules=modules)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"only": ["heeler"]}, "did you mean healer"),
        ({"only": ["zzz"]}, "it names a, b, healer"),
        ({"only": ["b"]}, "no module services.b"),
        ({"port": 65535}, "market-redis would be on port 65536"),
        ({"metrics_port": 65534}, "METRICS_PORT: healer would be on port 65536"),
    ],
)
def test_what_cannot_be_says_what_would_be_right(options, says):
    with pytest.raises(PlanError, match=says):
        plan(truth("a", "b", "healer"), **options)


def test_left_out_services_that_are_monitored_will_be_missed():
    document = truth("a", "b", "healer", "sentinel")
    modules = {svc: svc for svc in document.services}
    without_b = plan(document, modules=modules, only=["a", "healer"])
    assert without_b.left_out == ("b", "sentinel")
    assert find_missed(without_b, document) == ("b", "sentinel")
    assert find_missed(plan(document, modules=modules), document) == ()
    # the sentinel misses the healer; without a healer nobody misses the others
    alone = plan(document, modules=modules, only=["sentinel"])
    assert find_missed(alone, document) == ("healer",)
    assert find_missed(plan(document, modules=modules, only=["a"]), document) == ()


def test_a_left_out_service_that_is_not_monitored_is_not_missed():
    document = replicated(a={"heartbeat": {"monitored": False}}, healer={})
    assert find_missed(plan(document, only=["healer"]), document) == ()


def test_an_added_service_gets_ports_that_no_other_process_has():
    document = replicated(a={"replicas": 3}, healer={})
    taken = {agent.metrics_port for agent in plan(document, metrics_port=9100).agents}
    port = find_next_metrics_port(document, 9100, [])
    later = replicated(new={"replicas": 2})
    added = plan_added_agents(later, "new", "services.new", port)
    assert [(agent.name, agent.metrics_port) for agent in added] == [("new", 9104), ("new/2", 9105)]
    assert not taken & {agent.metrics_port for agent in added}
    assert find_next_metrics_port(document, 9100, added) == 9106


def test_an_added_service_of_a_fleet_without_metrics_has_none():
    assert find_next_metrics_port(truth("a"), None, []) is None
    assert plan_added_agents(replicated(new={}), "new", "m", None) == (PlannedAgent("new", "m"),)


def test_ports_of_an_added_service_end_at_the_last():
    with pytest.raises(PlanError, match="METRICS_PORT: new would be on port 65535"):
        plan_added_agents(replicated(new={"replicas": 2}), "new", "m", 65_535)


def plan_board(document, **options):
    return plan(document, modules=MODULES | {"board": "services.board"}, **options)


def test_the_board_has_a_port_and_no_other_service_has_one():
    drawn = plan_board(truth("a", "board"))
    assert {agent.svc: agent.environ() for agent in drawn.agents} == {
        "a": {},
        "board": {"BOARD_PORT": "8080"},
    }
    assert plan_board(truth("board"), board_port=9000).agents[0].board_port == 9000


def test_several_processes_of_the_board_have_ports_in_a_row():
    document = parse_truth(orjson.dumps({"services": {"board": {"replicas": 3}}})).truth
    assert [agent.board_port for agent in plan_board(document, board_port=9000).agents] == [9000, 9001, 9002]
    with pytest.raises(PlanError, match="board/2 would be on 65536"):
        plan_board(document, board_port=65_535)


def test_without_a_port_the_board_is_left_out_and_missed():
    document = truth("a", "board", "healer")
    drawn = plan_board(document, board_port=None)
    assert [agent.svc for agent in drawn.agents] == ["a", "healer"]
    assert find_missed(drawn, document) == ("board",)
