"""deploy/haproxy/engine-proxy.cfg, the proxy before a container engine: it lets five requests through."""

import re

import pytest

from support.pages import ROOT

ID = "0af1" * 16
CONTAINER = f"/v1.44/containers/{ID}"
LOGS = "logs?stdout=true&stderr=true&timestamps=true"


@pytest.fixture(scope="module")
def allows():
    """Return a function that says whether the rules of the file let a request through.

    The rules are read as HAProxy reads those that the file has: conditions of one name are joined by `or`,
    `path` is a URL without its query. tests/compose/test_engine.py asks a real one.
    """
    config = (ROOT / "deploy/haproxy/engine-proxy.cfg").read_text(encoding="utf-8")
    conditions: dict[str, list[tuple[str, str]]] = {}
    for name, kind, value in re.findall(r"^  acl (\w+) (\w+) (\S+)$", config, re.MULTILINE):
        conditions.setdefault(name, []).append((kind, value))
    (rule,) = re.findall(r"^  http-request deny unless (.*)$", config, re.MULTILINE)
    ways = [re.fullmatch(r"METH_(\w+) (\w+)", way) for way in rule.split(" or ")]
    assert sum(map(len, conditions.values())) == config.count("acl "), "each condition is understood"

    def holds(name, url):
        path = url.partition("?")[0]
        tests = {"path": lambda value: path == value, "path_reg": lambda value: re.search(value, path)}
        tests["url_reg"] = lambda value: re.search(value, url)
        return any(tests[kind](value) for kind, value in conditions[name])

    return lambda method, url: any(way[1] == method and holds(way[2], url) for way in ways if way)


@pytest.mark.parametrize(
    ("method", "url"),
    [
        ("GET", "/v1.44/containers/json?all=true&filters=%7B%22label%22%3A%5B%22x%22%5D%7D"),
        ("GET", f"{CONTAINER}/json"),
        ("GET", f"{CONTAINER}/stats?stream=false&one-shot=true"),
        ("GET", f"{CONTAINER}/{LOGS}&since=0&tail=500"),
        ("GET", f"{CONTAINER}/{LOGS}&since=1795738118&tail=5"),
        ("POST", f"{CONTAINER}/restart"),
    ],
)
def test_what_the_medic_asks_of_an_engine_is_let_through(allows, method, url):
    assert allows(method, url)


@pytest.mark.parametrize(
    ("method", "url"),
    [
        ("POST", "/v1.44/build"),
        ("POST", "/v1.44/containers/create"),
        ("POST", f"{CONTAINER}/exec"),
        ("POST", f"{CONTAINER}/stats?stream=false&one-shot=true"),
        ("POST", f"{CONTAINER}/json"),
        ("GET", f"{CONTAINER}/restart"),
        ("GET", f"{CONTAINER}/stats"),
        ("GET", f"{CONTAINER}/stats?stream=true"),
        ("GET", f"{CONTAINER}/stats?stream=false&one-shot=true&stream=true"),
        ("GET", f"{CONTAINER}/archive?path=/&x=/v1.44/containers/{ID}/stats?stream=false&one-shot=true"),
        ("GET", f"{CONTAINER}/archive?path=/etc"),
        ("GET", f"{CONTAINER}/export"),
        ("GET", f"{CONTAINER}/logs?stdout=1"),
        ("GET", f"{CONTAINER}/{LOGS}&since=0&tail=all"),
        ("GET", f"{CONTAINER}/{LOGS}&since=0&tail=500&follow=true"),
        ("GET", f"{CONTAINER}/{LOGS}&follow=true&since=0&tail=500"),
        ("POST", f"{CONTAINER}/{LOGS}&since=0&tail=500"),
        ("GET", f"/v1.44/containers/../{CONTAINER}/json"),
        ("GET", "/v1.44/containers/name/json"),
        ("GET", "/v1.44/images/json"),
        ("DELETE", CONTAINER),
    ],
)
def test_no_other_request_is(allows, method, url):
    assert not allows(method, url)
