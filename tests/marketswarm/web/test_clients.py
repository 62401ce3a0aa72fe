import ipaddress

import pytest

from marketswarm.web.clients import (
    GATEWAY,
    ClientFinder,
    check_networks,
    find_networks,
    may_read,
    read_gateway,
)

ROUTES = """Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask
eth0\t000011AC\t00000000\t0001\t0\t0\t0\t0000FFFF
eth0\t00000000\t010011AC\t0003\t0\t0\t0\t00000000
"""


@pytest.fixture
def routes(tmp_path):
    file = tmp_path / "route"
    file.write_text(ROUTES, encoding="ascii")
    return file


def test_the_gateway_is_that_of_the_default_route(routes, tmp_path):
    assert read_gateway(routes) == "172.17.0.1"
    assert read_gateway(tmp_path / "none") is None


def test_networks_are_checked_and_the_gateway_is_looked_up(routes, tmp_path):
    text = check_networks(" 10.1.2.3/16, gateway ,fd00::/8")
    assert [str(one) for one in find_networks(text, routes)] == ["10.1.0.0/16", "172.17.0.1/32", "fd00::/8"]
    assert find_networks("gateway", tmp_path / "none") == ()
    assert find_networks(check_networks(""), routes) == ()
    for wrong in ("everyone", "10.0.0.0/99", "localhost"):
        with pytest.raises(ValueError, match="gateway"):
            check_networks(wrong)


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1", "10.1.2.3", "::ffff:10.1.2.3"]
)
def test_this_machine_and_the_named_networks_may_read(address):
    assert may_read((address, 1), [ipaddress.ip_network("10.1.0.0/16"), ipaddress.ip_network("fd00::/8")])


@pytest.mark.parametrize(
    "client", [None, ("10.2.0.1", 1), ("fe80::1", 1), ("unix", 1), ("::ffff:10.2.0.1", 1), ("", 0)]
)
def test_others_may_not(client):
    assert not may_read(client, [ipaddress.ip_network("10.1.0.0/16")])


async def find_client(scope, routes):
    seen = []

    async def app(scope, _receive, _send):
        seen.append(scope.get("client"))

    await ClientFinder(app, (), find_networks(GATEWAY, routes))(scope, None, None)
    return seen


async def test_over_tls_the_gateway_may_be_any_other_machine_and_so_is_unknown(routes):
    gateway, other = ("172.17.0.1", 1), ("10.2.0.1", 1)
    for kind, plain, secure in (("http", "http", "https"), ("websocket", "ws", "wss")):
        scope = {"type": kind, "client": gateway}
        assert await find_client(scope | {"scheme": plain}, routes) == [gateway]
        assert await find_client(scope | {"scheme": secure}, routes) == [None]
        mapped = scope | {"scheme": secure, "client": ("::ffff:172.17.0.1", 1)}
        assert await find_client(mapped, routes) == [None]
        assert await find_client(scope | {"scheme": secure, "client": other}, routes) == [other]
    assert await find_client({"type": "lifespan"}, routes) == [None]
