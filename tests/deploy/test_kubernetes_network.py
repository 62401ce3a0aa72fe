"""Who may talk to whom by the policies and the rules of Kubernetes: all pairs, and the world outside."""

from support.pages import section
from support.rig.kubernetes import COMPONENT, Peer, may, of_kind, workloads

MAIL = {25, 465, 587}
TRIED = {22, 80, 443, 5432} | MAIL
OUTSIDE = {
    "rss_agg": {80, 443},
    "massive": TRIED,  # it tries whatever the truth names
    "vexy_ai": {443},
    "notifier": {80, 443} | MAIL,
    "sentinel": {80, 443} | MAIL,
    "sources": {443},
    "gate": {443},
    "signals": {443},
    "medic": {443},
}
USERS_OF_THE_DATABASE = {"archive", "board", "signals"}
# the world, in both kinds of address
PUBLIC = ["93.184.216.34", "2606:2800:220:1:248:1893:25c8:1946"]
# what is beside the fleet: nodes, other pods, a cloud's metadata, the neighbours of IPv6
INSIDE = ["10.0.0.1", "172.16.0.1", "192.168.1.1", "100.64.0.1", "169.254.169.254", "fd00::1", "fe80::1"]


def list_networks(overlays):
    for overlay, objects in overlays.items():
        yield overlay, of_kind(objects, "NetworkPolicy"), {each.name: each for each in workloads(objects)}


def is_program(pod):
    return pod.labels[COMPONENT] in {"agent", "bootstrap"}


def test_programs_reach_both_buses_those_who_may_the_database_and_no_pod_any_other(overlays):
    for overlay, policies, pods in list_networks(overlays):
        for name, source in pods.items():
            for other, target in pods.items():
                wanted = set()
                if target.labels[COMPONENT] == "bus" and is_program(source):
                    wanted = {6379}
                elif other == "postgres" and name in USERS_OF_THE_DATABASE:
                    wanted = {5432}
                ports = (6379, 6380, 5432, 9100, 443)
                open_ = {
                    port for port in ports if may(policies, Peer(source.labels), Peer(target.labels), port)
                }
                assert open_ == wanted, f"{overlay}: {name} to {other}"


def test_no_stranger_reaches_a_bus_or_the_database(overlays):
    for overlay, policies, pods in list_networks(overlays):
        strangers = [
            Peer({"app": "stranger"}),
            Peer(pods["board"].labels, namespace="default"),
            Peer(address="10.0.0.1"),
            Peer(address=PUBLIC[0]),
        ]
        for name, port in (("system-redis", 6379), ("market-redis", 6379), ("postgres", 5432)):
            if name in pods:
                let_in = [each for each in strangers if may(policies, each, Peer(pods[name].labels), port)]
                assert let_in == [], (overlay, name)


def test_only_who_has_business_outside_gets_there_and_no_pod_gets_beside(overlays):
    for overlay, policies, pods in list_networks(overlays):
        for name, pod in pods.items():
            source = Peer(pod.labels)
            for address in PUBLIC:
                open_ = {port for port in TRIED if may(policies, source, Peer(address=address), port)}
                assert open_ == OUTSIDE.get(name, set()), (overlay, name, address)
            assert not any(may(policies, source, Peer(address=each), 443) for each in INSIDE), (overlay, name)


def test_the_page_names_who_has_business_outside_and_who_asks_the_database():
    said = section("docs/security.md", "Ports").partition("Outgoing connections:")[2]
    assert [name for name in (OUTSIDE.keys() - {"gate"}) | USERS_OF_THE_DATABASE if name not in said] == []
    (databases,) = (line for line in said.splitlines() if "PostgreSQL" in line)
    others = {"sources", "bars", "medic"}
    assert {name for name in others | USERS_OF_THE_DATABASE if name in databases} == USERS_OF_THE_DATABASE


def test_every_program_may_ask_for_names_and_a_server_need_not(overlays):
    dns = Peer({"k8s-app": "kube-dns"}, namespace="kube-system")
    for overlay, policies, pods in list_networks(overlays):
        for name, pod in pods.items():
            for protocol in ("UDP", "TCP"):
                asks = may(policies, Peer(pod.labels), dns, 53, protocol)
                assert asks == is_program(pod), (overlay, name)
            assert not may(policies, Peer(pod.labels), dns, 8080), (overlay, name)


def test_without_the_first_policy_strangers_would_be_let_out(overlays):
    """The policy that forbids all is needed: a pod that no policy is about may do everything."""
    for overlay, policies, pods in list_networks(overlays):
        rest = [each for each in policies if each["metadata"]["name"] != "nobody"]
        assert len(rest) == len(policies) - 1, overlay
        stranger, outside = Peer({"app": "stranger"}), Peer(address=PUBLIC[0])
        assert may(rest, stranger, outside, 443)
        assert not may(policies, stranger, outside, 443)
        assert may(policies, Peer(pods["notifier"].labels), outside, 443)
