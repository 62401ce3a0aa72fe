"""Who may talk to whom by the policies and the rules of Kubernetes: all pairs, and the world outside."""

import pytest

from support.rig.kubernetes import COMPONENT, Peer, may, of_kind, workloads

OUTSIDE = {"rss_agg", "massive", "vexy_ai", "notifier", "sentinel"}
MAIL = {25, 465, 587}
# the world, in both kinds of address
PUBLIC = ["93.184.216.34", "2606:2800:220:1:248:1893:25c8:1946"]
# what is beside the fleet: nodes, other pods, a cloud's metadata, the neighbours of IPv6
INSIDE = ["10.0.0.1", "172.16.0.1", "192.168.1.1", "100.64.0.1", "169.254.169.254", "fd00::1", "fe80::1"]


@pytest.fixture
def policies(objects):
    return of_kind(objects, "NetworkPolicy")


@pytest.fixture
def pods(objects):
    return {each.name: each for each in workloads(objects)}


def test_every_program_reaches_both_buses_and_nobody_reaches_anybody_else(policies, pods):
    for source in pods.values():
        for target in pods.values():
            to_a_bus = target.labels[COMPONENT] == "bus" and source.labels[COMPONENT] != "bus"
            for port in (6379, 6380, 9100, 443):
                open_ = may(policies, Peer(source.labels), Peer(target.labels), port)
                assert open_ == (to_a_bus and port == 6379), f"{source.name} to {target.name}:{port}"


def test_no_stranger_reaches_a_bus(policies, pods):
    bus = Peer(pods["system-redis"].labels)
    strangers = [
        Peer({"app": "stranger"}),
        Peer(pods["healer"].labels, namespace="default"),
        Peer(address="10.0.0.1"),
        Peer(address=PUBLIC[0]),
    ]
    assert not any(may(policies, each, bus, 6379) for each in strangers)


def test_only_who_has_business_outside_gets_there_and_nobody_gets_beside(policies, pods):
    for name, pod in pods.items():
        for address in PUBLIC:
            for port in (80, 443, *MAIL, 22):
                wanted = {
                    "rss_agg": port in {80, 443},
                    "massive": True,  # it tries whatever the truth names
                    "vexy_ai": port == 443,
                    "notifier": port in {80, 443} | MAIL,
                    "sentinel": port in {80, 443} | MAIL,
                }.get(name, False)
                assert may(policies, Peer(pod.labels), Peer(address=address), port) == wanted, (
                    f"{name}: {port}"
                )
        assert not any(may(policies, Peer(pod.labels), Peer(address=each), 443) for each in INSIDE), name


def test_every_program_may_ask_for_names_and_a_bus_need_not(policies, pods):
    dns = Peer({"k8s-app": "kube-dns"}, namespace="kube-system")
    for name, pod in pods.items():
        for protocol in ("UDP", "TCP"):
            wanted = pod.labels[COMPONENT] != "bus"
            assert may(policies, Peer(pod.labels), dns, 53, protocol) == wanted, name
        assert not may(policies, Peer(pod.labels), dns, 8080), name


def test_without_the_first_policy_strangers_would_be_let_out(policies, pods):
    """What says that nobody talks to anybody is needed: of a pod that no policy is about, all is allowed."""
    rest = [each for each in policies if each["metadata"]["name"] != "nobody"]
    assert len(rest) == len(policies) - 1
    stranger, outside = Peer({"app": "stranger"}), Peer(address=PUBLIC[0])
    assert may(rest, stranger, outside, 443)
    assert not may(policies, stranger, outside, 443)
    assert may(policies, Peer(pods["massive"].labels), outside, 443)
