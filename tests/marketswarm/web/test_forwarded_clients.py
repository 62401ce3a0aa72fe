import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marketswarm.web.clients import ClientFinder, find_forwarded
from services.board.settings import BoardEnvironment

PROXIES = [ipaddress.ip_network(one) for one in ("127.0.0.0/8", "10.1.0.0/16", "fd00::/8")]
PROXY = ("127.0.0.1", 4711)


def headers(*lines):
    return [(name.encode(), value.encode("latin-1")) for name, value in lines]


def client_of(*lines):
    found = find_forwarded(headers(*lines), PROXY, PROXIES).get("client", "the proxy's")
    return found[0] if isinstance(found, tuple) else found


@pytest.mark.parametrize(
    ("lines", "client"),
    [
        ([], "the proxy's"),
        ([("x-forwarded-for", "")], "the proxy's"),
        ([("x-forwarded-for", "203.0.113.5")], "203.0.113.5"),
        ([("x-forwarded-for", "203.0.113.5:8443")], "203.0.113.5"),
        ([("x-forwarded-for", "2001:db8::5")], "2001:db8::5"),
        ([("x-forwarded-for", "[2001:db8::5]:8443")], "2001:db8::5"),
        ([("forwarded", "for=203.0.113.5;proto=https;by=10.1.0.1")], "203.0.113.5"),
        ([("forwarded", 'proto=https ; FOR="[2001:db8::5]:8443"')], "2001:db8::5"),
        ([("forwarded", 'for="_hidden"')], None),
        ([("forwarded", "proto=https")], None),
        ([("x-forwarded-for", "unknown")], None),
        # what stands before the client's own address was sent by the client
        ([("x-forwarded-for", "127.0.0.1, 203.0.113.5")], "203.0.113.5"),
        ([("x-forwarded-for", "127.0.0.1"), ("x-forwarded-for", "203.0.113.5")], "203.0.113.5"),
        ([("x-forwarded-for", "198.51.100.9, 203.0.113.5, 10.1.0.7")], "203.0.113.5"),
        ([("forwarded", 'for="127.0.0.1, for=203.0.113.5')], "203.0.113.5"),
        ([("x-forwarded-for", "10.1.0.9, 10.1.0.7")], "10.1.0.9"),
        ([("x-forwarded-for", ",".join(["127.0.0.1"] * 500 + ["203.0.113.5"]))], "203.0.113.5"),
        # a proxy sets one of the two, and hands the other one on as it was sent
        ([("x-forwarded-for", "203.0.113.5"), ("forwarded", "for=127.0.0.1")], None),
        ([("x-forwarded-for", "127.0.0.1"), ("forwarded", "for=203.0.113.5")], None),
        ([("x-forwarded-for", "203.0.113.5"), ("forwarded", "for=203.0.113.5")], "203.0.113.5"),
    ],
)
def test_the_client_is_the_last_address_that_is_no_proxy(lines, client):
    assert client_of(*lines) == client


@pytest.mark.parametrize(
    ("lines", "scheme"),
    [
        ([("x-forwarded-proto", "https")], "https"),
        ([("x-forwarded-proto", "http, HTTPS")], "https"),
        ([("forwarded", "for=203.0.113.5;proto=https")], "https"),
        ([("forwarded", "for=203.0.113.5;proto=https"), ("x-forwarded-proto", "http")], None),
        ([("x-forwarded-proto", "javascript")], None),
        ([], None),
    ],
)
def test_the_scheme_is_the_one_that_the_nearest_proxy_names(lines, scheme):
    assert find_forwarded(headers(*lines), PROXY, PROXIES).get("scheme") == scheme


@pytest.mark.parametrize(
    ("client", "kind", "believed"),
    [
        (("127.0.0.1", 1), "http", True),
        (("::ffff:10.1.2.3", 1), "websocket", True),
        (("10.2.0.1", 1), "http", False),
        (None, "http", False),
        (("127.0.0.1", 1), "lifespan", False),
    ],
)
async def test_only_a_named_proxy_is_believed(client, kind, believed):
    seen = []

    async def app(scope, _receive, _send):
        seen.append(scope)

    scope = {"type": kind, "client": client, "scheme": "http"}
    scope["headers"] = headers(("x-forwarded-for", "203.0.113.5"), ("x-forwarded-proto", "https"))
    await ClientFinder(app, PROXIES)(scope, None, None)
    assert (seen[0]["scheme"] == "https") is believed
    assert (seen[0]["client"] == ("203.0.113.5", 1)) is believed


NAMES = st.sampled_from(["forwarded", "x-forwarded-for", "x-forwarded-proto"])


@given(st.lists(st.tuples(NAMES, st.text(st.characters(max_codepoint=255), max_size=60))))
def test_no_header_raises_an_error_or_makes_a_client_that_is_no_address(lines):
    client = client_of(*lines)
    assert client in (None, "the proxy's") or ipaddress.ip_address(client)


@pytest.mark.parametrize("text", ["https://up.example", "http://up.example:8443/board/", " https://[::1]:1/"])
def test_the_public_address_is_that_of_a_site(text):
    assert BoardEnvironment(board_public_url=text).board_public_url == text.strip().rstrip("/")


@pytest.mark.parametrize(
    "text",
    ["up.example", "ftp://up.example", "https://", "https://me@up.example", "https://up.example?a=1"],
)
def test_what_is_no_address_of_a_site_is_refused(text):
    with pytest.raises(ValueError, match="must be https://name"):
        BoardEnvironment(board_public_url=text)


async def test_over_tls_the_gateway_is_unknown_and_not_believed_as_a_proxy():
    seen = []

    async def app(scope, _receive, _send):
        seen.append(scope["client"])

    scope = {"type": "http", "client": PROXY, "headers": headers(("x-forwarded-for", "127.0.0.1"))}
    for scheme in ("http", "https"):
        await ClientFinder(app, PROXIES, PROXIES)(scope | {"scheme": scheme}, None, None)
    assert seen == [("127.0.0.1", 4711), None]
