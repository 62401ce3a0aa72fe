"""Text for services of which nobody here knows what they make of a `*`."""

import pytest

from marketswarm.channels.inert import inert, said
from support.channel_messages import CASES, HOSTILE, MISS, hostile


@pytest.mark.parametrize("name", HOSTILE)
def test_of_what_a_stranger_is_called_nothing_is_live_any_more(name):
    for text in said(hostile(name), 10_000).values():
        assert not set(text) & set("<>@*`~|[]#&\\{}")
        assert ":rotating" not in text
        assert " _" not in text
        assert "_ " not in text
        text.encode()


@pytest.mark.parametrize(
    "text", ["rss_agg is down", "no beat for 31.2 s (timeout 30 s)", "at 12:50:58", "a-b: c", "bus a.b"]
)
def test_what_we_say_ourselves_stays_as_it_is(text):
    assert inert(text) == text


def test_it_stays_as_long_as_it_was():
    assert all(len(inert(name)) == len(name) for name in HOSTILE)
    assert inert("__x__ _y") == "＿＿x＿＿ ＿y"  # noqa: RUF001 - they look alike


@pytest.mark.parametrize("room", [160, 500, 2000, 20_000])
@pytest.mark.parametrize("case", CASES)
def test_a_body_keeps_to_its_room_and_counts_what_it_leaves_out(case, room):
    body = said(CASES[case], room)["body"]
    assert len(body) <= room
    left_out = len(CASES[case].lines) - body.count("worker_")
    assert not left_out or f"and {left_out} more" in body


def test_each_sort_of_news_is_one_of_theirs():
    assert [said(CASES[case], 1000)["notify_type"] for case in ("miss", "ok", "group")] == [
        "warning",
        "success",
        "failure",
    ]
    assert said(MISS, 1000)["title"] == MISS.title
