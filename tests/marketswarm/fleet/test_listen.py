import socket

import pytest

from marketswarm.exit import Exit
from marketswarm.fleet import preflight
from marketswarm.fleet.listen import ListenError, find_listen_address
from marketswarm.fleet.plan import make_plan
from marketswarm.truth import parse_truth

pytestmark = pytest.mark.live  # an address is tried by binding a port there


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("0.0.0.0", "means every network"),  # noqa: S104 - which is refused
        ("[::]", "means every network"),
        ("::ffff:0.0.0.0", "means every network"),
        ("127.0.0.1", "is this machine alone"),
        ("::ffff:127.0.0.1", "is this machine alone"),
        ("::1", "is this machine alone"),
        ("localhost", r"localhost \(.*\) is this machine alone"),
        ("192.0.2.10:6379", "has a port"),
        ("[2001:db8::1]:6379", "has a port"),
        ("192.0.2.10", "is not of this machine"),
        ("2001:db8::1", "is not of this machine|not supported"),
        ("239.1.1.1", "not an address for a server"),
        ("fe80::1%lo", "not an address for a server"),
        ("nowhere.invalid", "does not know that name"),
        ("a b", "neither an address nor a host name"),
        ("", "neither an address nor a host name"),
    ],
)
def test_what_is_unsafe_or_impossible_is_refused_with_the_reason(text, why):
    with pytest.raises(ListenError, match=why):
        find_listen_address(text)


def test_a_name_is_listened_at_by_its_address_and_told_as_it_was_typed(monkeypatch):
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.10", 0))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_args, **_more: found)
    monkeypatch.setattr(socket.socket, "bind", lambda *_args: None)
    at = find_listen_address("Fleet.Example")
    assert (at.name, at.address) == ("fleet.example", "192.0.2.10")


def planned(**known):
    truth = parse_truth(b'{"services":{"board":{}}}').truth
    return make_plan(truth, known=known, modules={"board": "services.board"}, port=7000)


def test_a_fleet_that_could_not_be_listened_at_safely_does_not_start(tmp_path, monkeypatch):
    at = preflight.ListenAddress("192.0.2.10", "192.0.2.10")
    monkeypatch.setattr(preflight, "find_listen_address", lambda _text: at)
    monkeypatch.setattr(preflight, "knows_tls", lambda binary: binary.name == "redis-server")
    with_tls, without = tmp_path / "redis-server", tmp_path / "valkey-server"

    def require(plan, binary, board_host="127.0.0.1"):
        return preflight.require_listening("192.0.2.10", plan, binary, board_host)

    assert require(planned(), with_tls) == at
    refused = {
        "was built without TLS": (planned(), without),
        "BOARD_HOST=192.0.2.10 would show the board": (planned(), with_tls, "192.0.2.10"),
        "must run all of its buses, and market-redis": (
            planned(**{"market-redis": "redis://far:1"}),
            with_tls,
        ),
    }
    for why, given in refused.items():
        with pytest.raises(Exit, match=why) as ended:
            require(*given)
        assert ended.value.code == 2
