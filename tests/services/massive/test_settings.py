"""What massive reads from the environment."""

import pytest

from marketswarm.exit import Exit
from marketswarm.settings import read_settings
from services.massive.market.settings import NO_KEY
from services.massive.settings import MassiveEnvironment

KINDS = ["dns", "tcp", "tls", "https", "polygon"]


def test_each_kind_is_on_and_has_the_common_limit():
    found = read_settings(MassiveEnvironment)
    assert [found.timeout_sec(kind) for kind in KINDS] == [2.0] * 5
    assert [found.why_off(kind) for kind in KINDS] == [None] * 4 + [NO_KEY]
    assert found.resolvers() == ()


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_may_have_its_own_limit_and_be_off(kind, monkeypatch):
    monkeypatch.setenv("NET_TIMEOUT_SEC", "7")
    monkeypatch.setenv(f"NET_{kind.upper()}_TIMEOUT_SEC", "3.5")
    monkeypatch.setenv(f"NET_{kind.upper()}_ENABLED", "false")
    monkeypatch.setenv("POLYGON_API_KEY", "k3y")
    found = read_settings(MassiveEnvironment)
    assert {each: found.timeout_sec(each) for each in KINDS} == dict.fromkeys(KINDS, 7.0) | {kind: 3.5}
    assert {each: found.why_off(each) for each in KINDS} == dict.fromkeys(KINDS) | {
        kind: f"NET_{kind.upper()}_ENABLED"
    }


def test_name_servers_are_separated_by_commas(monkeypatch):
    monkeypatch.setenv("NET_DNS_RESOLVERS", " 9.9.9.9,127.0.0.1:5353 , [::1]:53,")
    assert read_settings(MassiveEnvironment).resolvers() == ("9.9.9.9", "127.0.0.1:5353", "[::1]:53")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("NET_DNS_RESOLVERS", "dns.example"),
        ("NET_DNS_RESOLVERS", "9.9.9.9:0"),
        ("NET_DNS_ENABLED", "perhaps"),
        ("NET_TLS_TIMEOUT_SEC", "-2.5"),
        ("NET_HTTPS_TIMEOUT_SEC", "61"),
    ],
)
def test_what_does_not_parse_is_named_without_its_value(name, value, monkeypatch):
    monkeypatch.setenv(name, value)
    with pytest.raises(Exit, match=name) as refused:
        read_settings(MassiveEnvironment)
    assert refused.value.code == 2
    assert value not in str(refused.value)
