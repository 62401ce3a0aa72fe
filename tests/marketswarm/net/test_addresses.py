from ipaddress import ip_address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marketswarm.net.addresses import (
    is_allowed,
    is_inside,
    parse_allowance,
    parse_literal_addresses,
)
from support.examples import examples

# fmt: off
INSIDE = [
    # ruff: noqa: S104 - an address to be refused, not one to listen on
    "127.0.0.1", "127.8.8.8", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "0.0.0.0",
    "100.64.0.1", "192.0.2.1", "198.18.0.1", "224.0.0.1", "240.0.0.1", "255.255.255.255", "::",
    "::1", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254",
    "fe80::1", "fe80::1%eth0", "fc00::1", "fd00:ec2::254", "fec0::1", "ff02::1", "2001:db8::1",
    "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::1", "2002:7f00:1::", "2002:a9fe:a9fe::",
    "2001:0:4136:e378:8000:63bf:3fff:fdd2",
]
OUTSIDE = [
    "8.8.8.8", "1.1.1.1", "93.184.216.34", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808",
    "2002:808:808::1",
]
# fmt: on


@pytest.mark.parametrize("address", INSIDE)
def test_what_is_not_the_open_internet_is_inside(address):
    assert is_inside(ip_address(address))
    assert not is_allowed("example.com", ip_address(address), 80, ())


@pytest.mark.parametrize("address", OUTSIDE)
def test_an_ordinary_address_is_outside(address):
    assert not is_inside(ip_address(address))
    assert is_allowed("example.com", ip_address(address), 80, ())


@given(st.ip_addresses(v=4))
@settings(max_examples=examples(125))
def test_an_address_in_another_form_is_as_inside_as_in_its_own(four):
    for form in (f"::ffff:{four}", f"64:ff9b::{four}"):
        assert is_inside(ip_address(form)) == is_inside(four)


@pytest.mark.parametrize(
    ("word", "host", "address", "port"),
    [
        ("127.0.0.1", "127.0.0.1", "127.0.0.1", 80),
        ("127.0.0.1:8080", "127.0.0.1", "127.0.0.1", 8080),
        ("10.0.0.0/8", "wiki.example", "10.200.0.1", 443),
        ("10.0.0.0/8", "wiki.example", "::ffff:10.200.0.1", 443),
        ("Wiki.Example.", "wiki.example", "10.0.0.1", 443),
        ("wiki.example:443", "WIKI.example.", "fd00::1", 443),
        ("[::1]:8080", "::1", "::1", 8080),
        ("fd00::/8", "x", "fd12::1", 1),
    ],
)
def test_what_the_truth_allows_is_allowed(word, host, address, port):
    assert is_allowed(host, ip_address(address), port, [parse_allowance(word)])


@pytest.mark.parametrize(
    ("word", "host", "address", "port"),
    [
        ("127.0.0.1:8080", "127.0.0.1", "127.0.0.1", 6379),
        ("127.0.0.1", "x", "127.0.0.2", 80),
        ("wiki.example", "other.example", "10.0.0.1", 443),
        ("wiki.example", "a.wiki.example", "10.0.0.1", 443),
        ("wiki.example:443", "wiki.example", "10.0.0.1", 80),
        ("10.0.0.0/8", "x", "fd00::1", 80),
    ],
)
def test_nothing_beside_it_is(word, host, address, port):
    assert not is_allowed(host, ip_address(address), port, [parse_allowance(word)])


@pytest.mark.parametrize(
    "word", ["", " ", "a b", "http://x", "x/y", "x:0", "x:70000", "-x", "x" * 400, None, 5]
)
def test_what_is_neither_host_nor_network_is_none(word):
    assert parse_allowance(word) is None


def test_only_the_plain_form_of_an_address_is_one_that_is_written_out():
    assert [str(one) for one in parse_literal_addresses("[::1]")] == ["::1"]
    assert [str(one) for one in parse_literal_addresses("LocalHost.")] == ["127.0.0.1", "::1"]
    for host in ("0x7f.1", "2130706433", "127.1", "example.com", "", "localhost.example"):
        assert parse_literal_addresses(host) == ()
