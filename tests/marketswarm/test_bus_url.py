"""URLs of buses, taken apart."""

from urllib.parse import urlsplit

import pytest

from marketswarm.bus_url import (
    explain_bus_url,
    find_address,
    find_host_and_name,
    has_bus_as_host,
    is_bus_url,
    parse_sentinels,
)

SECRET = "hush-hush"  # noqa: S105 - nobody's
WHOLE = (
    f"rediss+sentinel://agent:{SECRET}@h1:26380,h2,[::1]:26379/mymaster/3"
    f"?ssl_ca_certs=%2Fca.pem&sentinel_username=asker&sentinel_password=so%40s%26o&health_check_interval=1"
)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        (f"redis://user:{SECRET}@h:7/2", "h:7"),
        ("redis://h", "h:6379"),
        (f"rediss://:{SECRET}@h", "h:6379"),
        ("unix:///tmp/x.sock", "/tmp/x.sock"),  # noqa: S108 - nothing is written there
        (WHOLE, "h1:26380,h2:26379,[::1]:26379/mymaster"),
        (f"redis+sentinel://u:{SECRET}@h1", "?"),
        (f"redis://u:{SECRET}@h:port", "?"),
    ],
)
def test_a_place_is_shown_without_credentials(url, shown):
    assert find_address(url) == shown


def test_servers_and_sentinels_have_users_of_their_own_and_one_authority():
    said = parse_sentinels(WHOLE)
    assert said.master == "mymaster"
    server = urlsplit(said.make_server_url("10.0.0.1", 6390))
    assert (server.scheme, server.netloc) == ("rediss", f"agent:{SECRET}@10.0.0.1:6390")
    assert (server.path, server.query) == ("/3", "ssl_ca_certs=%2Fca.pem&health_check_interval=1")
    assert said.make_sentinel_urls() == [
        f"rediss://asker:so%40s%26o@{host}?ssl_ca_certs=%2Fca.pem"
        for host in ("h1:26380", "h2:26379", "[::1]:26379")
    ]
    assert said.make_server_url("::1", 1).startswith(f"rediss://agent:{SECRET}@[::1]:1/")
    assert SECRET not in repr(said)
    assert "so" not in repr(said).replace("sentinels", "")


def test_who_says_little_gets_the_usual_ports_no_user_and_the_first_database():
    said = parse_sentinels("redis+sentinel://a/m")
    assert said.make_sentinel_urls() == ["redis://a:26379"]
    assert said.make_server_url("b", 1) == "redis://b:1/0"


@pytest.mark.parametrize(
    "url",
    [
        "redis+sentinel://",
        "redis+sentinel://h1",
        "redis+sentinel://h1/",
        "redis+sentinel:///mymaster",
        "redis+sentinel://h1,,h2/mymaster",
        "redis+sentinel://h1:0/mymaster",
        "redis+sentinel://h1:99999/mymaster",
        "redis+sentinel://h1:26379/mymaster/first",
        "redis+sentinel://h1:26379/mymaster/1/2",
        "redis+sentinel://h1:26379/mymaster#1",
        "redis+sentinel:h1/mymaster",
        "sentinel://h1:26379/mymaster",
        "http://h1",
        "redis://",
        "redis://h:0",
        "redis://h:x",
        "unix://",
        "",
    ],
)
def test_what_is_no_url_of_a_bus_is_known_for_that(url):
    assert not is_bus_url(url)


@pytest.mark.parametrize(
    "url",
    [
        "redis://:S3@secret#et@127.0.0.1:6379",
        "redis://:S3@secret/et@127.0.0.1:6379",
        "redis://:S3@secret?et@127.0.0.1:6379",
        "redis://:S3#secret@h",
        "redis://:S3/secret@h",
        "redis://:S3?secret@h",
        "redis://secret:12/x@h",
        "redis://secret:12?x@h",
        "redis://secret:12#x@h",
        "redis://secret:12/0?x@h",
        "redis://u:p@h#secret",
        "rediss://:se[cret@h",
        "redis://:se cret@h",
        "redis://:S3@se%cret#@h",
        "unix://:secret/x@/run/redis.sock",
        "unix://secret/x@/run/redis.sock",
        "redis+sentinel://:S3@secret#et@h/m",
        "redis+sentinel://:S3@secret/et@h",
        "redis+sentinel://:S3@secret?et@h/m",
        "redis+sentinel://:S3@secret/m?x@h/m",
    ],
)
def test_a_part_of_a_password_is_no_host_and_shown_nowhere(url):
    assert not is_bus_url(url)
    assert find_address(url) == "?"
    assert "percent-encode" in explain_bus_url(url)
    assert "secret" not in explain_bus_url(url)


@pytest.mark.parametrize(
    "url", ["redis://h:1/production", "redis://h:1/1/2", "redis://h:1/00001", "redis://h/x"]
)
def test_only_a_number_follows_the_port(url):
    assert not is_bus_url(url)
    assert explain_bus_url(url).endswith("; only the number of a database may follow the port")


@pytest.mark.parametrize(
    ("url", "where"),
    [
        ("redis://:S3%40cr%23et%2F%3F%25@h:1/2", "h:1"),
        ("redis://:S3@cr@et@h:1", "h:1"),  # nothing can be meant by it but this
        ("redis://u:a:b@h:1?health_check_interval=1", "h:1"),
        ("unix://u:p@/run/redis@1.sock", "/run/redis@1.sock"),
        ("unix:///run/redis@1.sock?db=1", "/run/redis@1.sock"),
        ("unix://localhost/run/redis.sock", "/run/redis.sock"),
        ("rediss://u:p@[::1]:1/", "::1:1"),
    ],
)
def test_a_password_that_is_encoded_or_can_be_told_apart_is_taken(url, where):
    assert is_bus_url(url)
    assert find_address(url) == where


@pytest.mark.parametrize("url", [WHOLE, "REDIS+SENTINEL://h/m", "redis://h", "rediss://h:1", "unix:///s"])
def test_each_form_is_one(url):
    assert is_bus_url(url)


def test_a_bus_that_has_no_name_is_called_by_its_place_and_database():
    assert find_host_and_name("redis://h:7/2") == ("h", "h:7/2")
    assert find_host_and_name("redis://u:p@[::1]/0") == ("::1", "[::1]:6379")
    assert find_host_and_name("unix:///s") == ("", "/s")
    assert find_host_and_name(WHOLE) == ("", "h1:26380,h2:26379,[::1]:26379/mymaster/3")


def test_the_host_of_a_server_may_be_the_name_of_a_bus_and_that_of_a_sentinel_is_none():
    assert has_bus_as_host("redis://market-redis:6379", "Market-Redis")
    assert not has_bus_as_host("redis+sentinel://market-redis:26379/m", "market-redis")
    assert not has_bus_as_host("redis://market-redis:x", "market-redis")
