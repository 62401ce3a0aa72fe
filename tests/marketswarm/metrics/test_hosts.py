import pytest

from marketswarm.metrics.hosts import is_ours, own_names

NAMES = own_names("127.0.0.9", "rss_agg", "Healer.example.org", "")


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
    assert is_ours(host, NAMES)


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
    assert not is_ours(host, NAMES)
