"""A key goes to the origin under which it is filed, and is never shown."""

import pytest

from marketswarm.exit import Mistake
from marketswarm.settings import read_settings
from services.signals.ask.keys import MAX_KEYS, VoterEnvironment, find_origin, parse_keys

FILE = """
# keys of voters
https://api.x.ai\txai-secret
https://API.perplexity.ai:443/  pplx-secret
http://127.0.0.1:9000 local
"""


def find(url):
    found = parse_keys(FILE).find(url)
    return None if found is None else found.get_secret_value()


def test_a_key_is_found_by_the_origin_of_a_url_and_by_nothing_else():
    assert find("https://api.x.ai/v1") == "xai-secret"
    assert find("https://API.X.AI:443/v1/chat/completions") == "xai-secret"
    assert find("https://api.perplexity.ai/chat") == "pplx-secret"
    assert find("http://127.0.0.1:9000/vote") == "local"


@pytest.mark.parametrize(
    "url",
    [
        *(
            "http://api.x.ai/v1",
            "https://api.x.ai:8443/v1",
            "https://x.ai/v1",
            "https://api.x.ai.evil.example/v1",
        ),
        *("https://evil.example/https://api.x.ai", "https://evil.example/?https://api.x.ai"),
        *("https://evil.example#https://api.x.ai/", "https://api.x.ai@evil.example/v1", "wss://api.x.ai/v1"),
        *("http://127.0.0.1:9001/vote", "http://localhost:9000/vote", "//api.x.ai/v1", "api.x.ai", ""),
        *("https://api.x.ai:99999/v1", "https://[/v1"),
    ],
)
def test_no_other_origin_gets_one(url):
    assert find(url) is None


def test_equal_origins_are_equal_texts():
    assert (
        find_origin("HTTPS://Api.X.ai./v1") == find_origin("https://api.x.ai:443") == "https://api.x.ai:443"
    )


@pytest.mark.parametrize(
    "line",
    [
        *("https://api.x.ai", "s3cret", "https://api.x.ai s3cret more", "s3cret https://api.x.ai"),
        *(
            "http://api.x.ai s3cret",
            "ftp://api.x.ai s3cret",
            "https://user:pw@api.x.ai s3cret",
            "https:// s3cret",
        ),
        *("https://api.x.ai/v1 s3cret", "https://api.x.ai?s3cret s3cret", "https://api.x.ai s3crét"),
        *("https://api.x.ai:0 s3cret", "https://api.x.ai " + "s3cret" * 2000, "https://a.example\0 s3cret"),
    ],
)
def test_a_line_that_is_no_key_is_named_and_not_shown(line):
    with pytest.raises(ValueError, match=r"^line 2: ") as error:
        parse_keys(f"# keys\n{line}\n")
    assert "s3cret" not in str(error.value)
    assert "s3c" not in repr(error.value)


def test_an_origin_stands_there_once_and_not_too_many_do():
    with pytest.raises(ValueError, match="line 2: has an origin that stands above"):
        parse_keys("https://a.example one\nhttps://A.example:443/ two")
    with pytest.raises(ValueError, match="more than 100"):
        parse_keys("\n".join(f"https://{at}.example key" for at in range(MAX_KEYS + 1)))
    assert len(parse_keys("")) == 0


def test_keys_are_not_shown():
    keys = parse_keys("https://api.x.ai s3cret")
    assert "s3cret" not in f"{keys!r}{keys}{keys.find('https://api.x.ai')!r}{vars(keys)}"


def test_they_are_read_from_a_file_and_a_mistake_names_the_variable_alone(tmp_path, monkeypatch):
    file = tmp_path / "keys"
    monkeypatch.setenv("SIGNALS_KEYS_FILE", str(file))
    file.write_text(FILE)
    found = read_settings(VoterEnvironment)
    assert len(found.origin_keys) == 3
    assert "secret" not in f"{found!r}"
    file.write_text("https://api.x.ai s3cret s3cret")
    with pytest.raises(Mistake) as error:
        read_settings(VoterEnvironment)
    assert str(error.value).startswith("SIGNALS_KEYS: line 1: must be an origin")
    assert "s3cret" not in str(error.value)


def test_without_the_variable_no_origin_has_a_key():
    assert len(VoterEnvironment().origin_keys) == 0
