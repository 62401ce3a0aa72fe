"""The `env:NAME` form, and what counts as a secret."""

import pytest

from marketswarm.truth import find_nearest, resolve_references
from marketswarm.truth.credentials import has_url_password, is_secret_key, is_secret_number_key
from marketswarm.truth.errors import format_value


def test_a_reference_is_resolved_at_any_depth():
    settings = {
        "api_key": "env:KEY",
        "list": ["env:KEY", 1, {"deep": "env:OTHER"}],
        "plain": "environment",
        "none": None,
    }
    assert resolve_references(settings, {"KEY": "k", "OTHER": ""}) == {
        "api_key": "k",
        "list": ["k", 1, {"deep": ""}],
        "plain": "environment",
        "none": None,
    }


def test_a_variable_that_is_not_set_is_named():
    with pytest.raises(LookupError, match="asks for POLYGON_API_KEY, which is not set"):
        resolve_references({"a": ["env:POLYGON_API_KEY"]}, {"OTHER": "1"})


@pytest.mark.parametrize("text", ["env:", "env:1X", "env:A B", "ENV:A", " env:A", "env:A-B"])
def test_what_is_not_quite_the_form_stands_for_itself(text):
    assert resolve_references(text, {}) == text


@pytest.mark.parametrize(
    "key",
    [
        "password",
        "Password",
        "smtp_password",
        "dbPassword",
        "PASSWD",
        "secret",
        "client-secret",
        "secretKey",
        "token",
        "auth.token",
        "accessToken",
        "tokens",
        "api_key",
        "apikey",
        "API-KEY",
        "x-api-key",
        "polygonApiKey",
        "api key",
        "pass_word",
    ],
)
def test_a_key_says_secret_in_many_spellings(key):
    assert is_secret_key(key)


@pytest.mark.parametrize(
    "key", ["key", "keys", "path", "tokenizer", "secretary", "api", "monkey", "", "1", "pass"]
)
def test_a_key_that_only_looks_like_it_does_not(key):
    assert not is_secret_key(key)


@pytest.mark.parametrize(
    ("key", "secret"),
    [
        ("password", True),
        ("api_key", True),
        ("auth_token", True),
        ("max_tokens", False),
        ("token_limit", False),
    ],
)
def test_a_number_is_a_secret_only_where_the_last_word_says_so(key, secret):
    assert is_secret_number_key(key) is secret


@pytest.mark.parametrize(
    "text",
    [
        "redis://:p@h",
        "redis://u:p@h:1/0",
        "https://u:p@h/x",
        "see https://u:p@h/ there",
        "redis://:a/b#c?d@h",
        "postgres+x://u:p@h",
        "https://h/?token=x",
        "https://h/?a=b&API_KEY=x#y",
    ],
)
def test_a_password_in_a_url_is_seen(text):
    assert has_url_password(text)
    assert "p@" not in format_value(text)


@pytest.mark.parametrize(
    "text",
    [
        "redis://h",
        "redis://u@h",
        "https://h:443/@user",
        "https://h/a:b@c",
        "u:p@h",
        "https://h/?token=",
        "https://h/?page=2",
    ],
)
def test_a_url_without_one_is_let_pass(text):
    assert not has_url_password(text)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("plain", '"plain"'),
        ("redis://h:6379/0", '"redis://h:6379/0"'),
        ("redis://hunter2@h", '"redis://***"'),
        ("redis://:hunter2", '"redis://***"'),
        ("me:hunter2@h", '"***"'),
        ("https://h/?q=hunter2", '"https://***"'),
        ("a" * 100, '"' + "a" * 59 + '…"'),
        ("\x1b[31m\u202e", '"\\u001b[31m\\u202e"'),
        ("é", '"é"'),
        (10**200, "a number of more than 30 digits"),
        (-1.5, "-1.5"),
        ({"password": "hunter2"}, "an object"),
        (["hunter2"], "a list"),
    ],
)
def test_a_value_is_shown_short_and_without_credentials(value, shown):
    assert format_value(value) == shown


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("intervall_sec", "interval_sec"),
        ("Interval-Sec", "interval_sec"),
        ("chanel", "channel"),
        ("zzz", None),
        ("", None),
    ],
)
def test_the_nearest_known_name_is_found(name, near):
    assert find_nearest(name, ["channel", "interval_sec"]) == near
