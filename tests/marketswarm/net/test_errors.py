"""One word for what went wrong on a network."""

import socket
import ssl

import httpx
import pytest

from marketswarm.net.errors import EXACT_REASONS, GENERAL_REASONS, NetworkReason, find_reason, iterate_causes
from marketswarm.net.http_errors import find_http_reason


def caused(error, *causes):
    """An error that was raised from the first cause, which was raised from the second, and so on."""
    link = error
    for cause in causes:
        link.__cause__ = cause
        link = cause
    return error


NO_NAME = socket.gaierror(socket.EAI_NONAME, "x")


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (caused(httpx.ConnectError("x"), OSError("all failed"), NO_NAME), "dns"),
        (caused(httpx.ConnectError("x"), ssl.SSLError("x")), "tls"),
        (httpx.ReadTimeout("x"), "timeout"),
        (caused(httpx.ConnectTimeout("x"), ssl.SSLWantReadError("x")), "timeout"),
        (TimeoutError(), "timeout"),
        (ConnectionRefusedError(), "refused"),
        (caused(httpx.ConnectError("x"), OSError("no route")), "refused"),
        (httpx.ReadError("x"), "broken"),
        (httpx.RemoteProtocolError("x"), "broken"),
        (ConnectionResetError(), "broken"),
        (httpx.ProxyError("x"), "proxy"),
        (httpx.UnsupportedProtocol("x"), "bad_url"),
        (httpx.InvalidURL("x"), "bad_url"),
        (httpx.LocalProtocolError("x"), None),
        (ValueError("x"), None),
    ],
    ids=repr,
)
def test_an_http_error_has_one_reason(error, reason):
    assert find_http_reason(error) == reason


def test_every_reason_is_one_of_the_vocabulary_and_plain_text():
    found = find_reason(ConnectionResetError(), EXACT_REASONS, GENERAL_REASONS)
    assert found in set(NetworkReason)
    assert type(found) is str


def test_what_says_the_reason_exactly_counts_before_what_wraps_it_and_the_nearer_before_the_farther():
    assert find_reason(caused(OSError("x"), NO_NAME), EXACT_REASONS, GENERAL_REASONS) == "dns"
    assert find_reason(caused(TimeoutError(), NO_NAME), EXACT_REASONS, GENERAL_REASONS) == "timeout"
    assert find_reason(ValueError("x"), EXACT_REASONS, GENERAL_REASONS) is None


def test_causes_that_go_round_in_a_circle_end():
    first, second = OSError("a"), OSError("b")
    first.__cause__, second.__cause__ = second, first
    assert len(list(iterate_causes(first))) == 8
