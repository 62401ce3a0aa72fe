"""What METRICS_PORT answers, and to whom."""

import contextlib
import gzip
import socket
import threading
import time
import urllib.error
import urllib.request

import pytest
from prometheus_client.parser import text_string_to_metric_families

from marketswarm.exit import Exit
from marketswarm.metrics import Family
from marketswarm.metrics.exporter import (
    CLIENT_LIMIT_SEC,
    MAX_CONNECTIONS,
    MAX_HEAD_BYTES,
    Exporter,
    is_own_host,
    list_own_names,
)
from support.rig import HOST, free_port
from support.rig.process import NO_HOST
from support.waiting import until

NAMES = list_own_names("127.0.0.9", "rss_agg", "Healer.example.org", "")


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.0.0.1:9100",
        "10.1.2.3:9100",
        "[::1]:9100",
        "[2001:db8::1]",
        "localhost:9100",
        "LOCALHOST.",
        "rss_agg:9100",
        "healer.example.org",
        "a.localhost:1",
    ],
)
def test_addresses_and_our_own_names_are_answered(host):
    assert is_own_host(host, NAMES)


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:9100",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "notlocalhost",
        "rss_agg.evil.example",
        "evil.example:9100:1",
        "user@127.0.0.1",
        "[::1",
        "[evil]:1",
        "",
        ":9100",
        "127.0.0.1, evil.example",
    ],
)
def test_any_other_name_is_a_strangers(host):
    assert not is_own_host(host, NAMES)


def many(count):
    return [((f"svc{n}",), n) for n in range(count)]


def up(values=()):
    return Family("some_up", "gauge", "Up.", values, ("svc",))


@pytest.fixture
def sources():
    return [lambda: [up(many(3))]]


@pytest.fixture
def port(sources):
    found = free_port()
    with Exporter(HOST, found, sources):
        yield found


def get(port, path="/metrics", **headers):
    request = urllib.request.Request(f"http://{HOST}:{port}{path}", headers=headers)
    with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 - http, and nothing else
        return answer.headers, answer.read()


def refused(port, path="/metrics"):
    with pytest.raises(urllib.error.HTTPError) as error:
        get(port, path)
    with error.value:
        return error.value.code


def raw(port, sent, within=5.0):
    """What is answered to these bytes, until the connection ends."""
    with socket.create_connection((HOST, port), within) as client:
        client.settimeout(within)
        found = b""
        with contextlib.suppress(ConnectionResetError, BrokenPipeError):
            client.sendall(sent)
            while piece := client.recv(65536):
                found += piece
        return found


# -- by which name


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"Host: evil.example:9100\r\n", b"421"),
        (b"Host: 127.0.0.1\r\nHost: evil.example\r\n", b"421"),
        (b"Host:\r\n", b"421"),
        (b"Host: 10.0.0.7:9100\r\n", b"200"),
        (b"Host: LocalHost:9100\r\n", b"200"),
        (b"Host: told.example\r\n", b"200"),
        (b"", b"200"),  # no browser leaves it out
    ],
)
def test_a_name_that_is_not_ours_is_refused_whoever_has_it_lead_here(sources, head, status):
    with Exporter(HOST, port := free_port(), sources, ["told.example"]):
        answer = raw(port, b"GET /metrics HTTP/1.0\r\n" + head + b"\r\n")
    assert answer.split()[1] == status
    assert (b"some_up" in answer) is (status == b"200")


# -- what is told


def test_it_answers_what_its_sources_tell_in_the_text_format(port):
    headers, text = get(port)
    assert headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    families = {family.name: family for family in text_string_to_metric_families(text.decode())}
    assert [(s.labels["svc"], s.value) for s in families["some_up"].samples] == [
        ("svc0", 0), ("svc1", 1), ("svc2", 2),
    ]  # fmt: skip
    assert "process_resident_memory_bytes" in families


def test_a_source_that_comes_later_is_told_too(port, sources):
    sources.append(lambda: [Family("more_total", "counter", "More.", [((), 7)])])
    assert b"\nmore_total 7.0\n" in get(port)[1]


def test_who_takes_it_packed_gets_it_packed(port):
    headers, packed = get(port, **{"Accept-Encoding": "deflate, gzip"})
    assert headers["Content-Encoding"] == "gzip"
    assert int(headers["Content-Length"]) == len(packed)
    assert b'some_up{svc="svc2"} 2.0' in gzip.decompress(packed)


def test_a_source_that_fails_is_a_failed_scrape_and_one_log_line_and_the_next_may_succeed(
    port, sources, capsys
):
    fails = [True]

    def source():
        if fails:
            raise KeyError("of the source")
        return []

    sources.append(source)
    assert [refused(port), refused(port)] == [500, 500]
    fails.clear()
    assert get(port)[1]
    said = capsys.readouterr()
    assert (said.out + said.err).count("metrics.failed") == 1


def test_there_is_one_path(port):
    assert refused(port, "/") == 404
    assert get(port, "/metrics?name=x")[1]


# -- where it listens


def test_a_taken_port_is_a_matter_of_configuration_that_names_the_variable(port):
    with pytest.raises(Exit, match=f"METRICS_PORT: port {port} on {HOST} is taken") as end:
        Exporter(HOST, port, [])
    assert end.value.code == 2


@pytest.mark.parametrize("host", ["192.0.2.1", NO_HOST, "::ffff:192.0.2.1"])
def test_a_host_that_is_not_here_names_its_variable(host):
    with pytest.raises(Exit, match="METRICS_HOST: nobody can listen on") as end:
        Exporter(host, free_port(), [])
    assert end.value.code == 2


def test_once_it_is_over_its_port_is_free_and_who_hangs_on_is_dropped(sources):
    port = free_port()
    with Exporter(HOST, port, sources):
        before = set(threading.enumerate())
        client = socket.create_connection((HOST, port), 5)
        client.sendall(b"GET /metr")
        until(lambda: set(threading.enumerate()) - before, what="its thread")
        begun_at = time.monotonic()
    assert time.monotonic() - begun_at < CLIENT_LIMIT_SEC, "it waited for the client"
    with client, contextlib.suppress(ConnectionResetError):
        assert client.recv(1) == b""
    with Exporter(HOST, port, sources):
        assert get(port)[1]


# -- strangers


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500) + b"\n",  # who speaks TLS
        b"*1\r\n$4\r\nPING\r\n",
        b"\r\n\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET /metrics HTTP/9.9\r\n\r\n",
        b"POST /metrics HTTP/1.1\r\nContent-Length: 1000000000\r\n\r\n",
        b"GET http://\xff\xfe/ HTTP/1.1\r\nHost: \x00\r\n\r\n",
        b"GET /" + b"x" * 10 * MAX_HEAD_BYTES + b" HTTP/1.1\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\n" + b"A: " + b"x" * 10 * MAX_HEAD_BYTES + b"\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\n" + b"".join(b"H%d: x\r\n" % n for n in range(5000)) + b"\r\n",
    ],
    ids=lambda sent: repr(sent[:24]),
)
def test_who_speaks_nonsense_is_turned_away_and_the_next_is_served(port, sent):
    answer = raw(port, sent)
    assert b"some_up" not in answer
    assert get(port)[1]


def test_no_more_of_a_head_is_read_than_its_bound(port):
    head = b"GET /metrics HTTP/1.1\r\n" + b"".join(b"H%d: %b\r\n" % (n, b"x" * 1000) for n in range(40))
    assert b" 431 " in raw(port, head + b"\r\n").splitlines()[0]


def test_those_who_connect_and_say_nothing_keep_nobody_from_being_served(port):
    before = threading.active_count()
    with contextlib.ExitStack() as silent:
        for _ in range(5 * MAX_CONNECTIONS):
            silent.enter_context(socket.create_connection((HOST, port), 5))
        assert get(port)[1]
        until(lambda: threading.active_count() <= before + MAX_CONNECTIONS, what="bounded threads")
        assert get(port)[1]


def test_one_who_dribbles_is_dropped_in_the_end(port, monkeypatch):
    monkeypatch.setattr("marketswarm.metrics.exporter.CLIENT_LIMIT_SEC", 0.5)
    with socket.create_connection((HOST, port), 5) as client:

        def is_dropped() -> bool:
            try:
                client.sendall(b"G")
            except (ConnectionResetError, BrokenPipeError):
                return True
            return False

        until(is_dropped, what="the end of the connection")


def test_how_long_an_answer_takes_to_make_is_not_held_against_who_asked(port, sources, monkeypatch):
    monkeypatch.setattr("marketswarm.metrics.exporter.CLIENT_LIMIT_SEC", 0.2)
    sources.append(lambda: [time.sleep(0.4), up(many(1))][1:])
    assert b"some_up" in get(port)[1]


def test_one_who_does_not_read_his_answer_is_dropped_in_the_end(port, sources, monkeypatch):
    monkeypatch.setattr("marketswarm.metrics.exporter.CLIENT_LIMIT_SEC", 0.5)
    long = "x" * 10_000
    sources.append(lambda: [up([((f"{long}{n}",), n) for n in range(2000)])])
    before = set(threading.enumerate())
    with socket.create_connection((HOST, port), 5) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
        until(lambda: set(threading.enumerate()) - before, what="its thread")
        until(
            lambda: not set(threading.enumerate()) - before, what="its end"
        )  # before the socket's own limit
