"""The settings of voters outside: a URL in which everybody finds the same host, and bounds."""

import pytest
from pydantic import ValidationError

from services.signals.ask.endpoints import VOTER, ChatSettings, HttpSettings, NewsSettings

URL = "https://api.x.ai/v1"


@pytest.mark.parametrize(
    "url",
    [
        URL,
        "http://127.0.0.1:9000/vote?a=b",
        "http://[::1]:9000/",
        "https://api.x.ai",
        "http://ollama:11434/v1",
    ],
)
def test_a_url_is_taken(url):
    assert HttpSettings(url=url).url == url


@pytest.mark.parametrize(
    "url",
    [
        *(
            "",
            "api.x.ai",
            "ftp://api.x.ai",
            "https://",
            "https://user:pw@api.x.ai/",
            "https://api.x.ai\\@evil.example",
        ),
        *("https://api.x.ai/ v1", "https://api.x.ai/\n", "https://api.x.ai:0/", "https://api.x.ai:99999/"),
        *(
            "https://evil.example@api.x.ai",
            "https://api.x.ai/" + "x" * 1000,
            "https://äpi.x.ai/",
            "https://[/",
        ),
    ],
)
def test_a_url_in_which_two_readers_may_find_two_hosts_is_not(url):
    with pytest.raises(ValidationError) as error:
        HttpSettings(url=url)
    assert "pw@" not in str(error.value)


def test_who_answers_is_known_by_url_and_model():
    chat = ChatSettings(url=URL, model="a")
    assert chat.identity == ChatSettings(url=URL, model="a", answer_sec=60).identity
    others = {ChatSettings(url=URL, model="b"), ChatSettings(url=f"{URL}x", model="a"), HttpSettings(url=URL)}
    assert chat.identity not in {each.identity for each in others}


@pytest.mark.parametrize(
    "wrong",
    [
        *({"calls_per_cycle": each} for each in (0, 1001, "5", True, 1.5)),
        *({"answer_sec": each} for each in (0, float("nan"), 1e9)),
        *({"stale_move": each} for each in (0, 2)),
        {"allow_inside": ["?"]},
        {"timeout_sec": 1000},
        {"at_once": 0},
    ],
)
def test_settings_have_bounds(wrong):
    with pytest.raises(ValidationError):
        HttpSettings(url=URL, **wrong)


def test_a_chat_voter_needs_a_url_and_a_model():
    for lacking in ({"url": URL}, {"model": "m"}):
        with pytest.raises(ValidationError):
            ChatSettings(**lacking)


@pytest.mark.parametrize(
    "wrong", ["2025-13-01", "2025-02-30", "20250701", "2025-07-01T00:00", "soon", "", 20250701]
)
def test_a_cutoff_is_a_day(wrong):
    with pytest.raises(ValidationError):
        ChatSettings(url=URL, model="m", cutoff=wrong)
    assert ChatSettings(url=URL, model="m", cutoff="2024-02-29").may_know_future(0)


def test_news_have_ages():
    assert NewsSettings().half_sec == 1800
    with pytest.raises(ValidationError):
        NewsSettings(half_sec=0)


def test_a_name_of_a_voter_is_part_of_keys():
    assert VOTER.fullmatch("xai_grok")
    assert not any(map(VOTER.fullmatch, ("", "Grok", "a:b", "1a", "a" * 41, "a\n")))
