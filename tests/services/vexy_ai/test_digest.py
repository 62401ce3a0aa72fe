import random

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.vexy_ai.digest import (
    Digest,
    Story,
    SummaryResult,
    add_summaries,
    group_similar,
    make_story,
    normalize,
    rank_stories,
    similarity,
)
from services.vexy_ai.notes import Note
from services.vexy_ai.records import PriceMove, ProbeOutage, WindowContent
from support.examples import examples

TITLES = [
    "Acme beats expectations as profits rise",
    "Storm closes the harbour of Rotterdam",
    "Acme beats expectations, as profits rise!",
    "ACME beats expectations as profits rise - Daily News",
    "",
    "中央銀行が政策金利を引き上げ、市場は動揺",
    "中央銀行が政策金利を引き上げ市場は動揺か",
    "",
]


def test_what_is_nearly_the_same_is_one_story_in_any_script():
    assert group_similar(TITLES, 0.6) == [[0, 2, 3], [1], [4], [5, 6], [7]]


def test_how_like_it_must_be_is_for_the_truth_to_say():
    assert group_similar(TITLES, 0.95) == [[0, 2], [1], [3], [4], [5], [6], [7]]


def test_the_same_titles_give_the_same_stories_again():
    assert group_similar(TITLES, 0.6) == group_similar(TITLES, 0.6)


@settings(max_examples=examples(75))
@given(st.lists(st.text(alphabet="abcd 1ü漢", max_size=30), max_size=20))
def test_each_title_is_in_one_story_and_equal_ones_in_the_same(titles):
    groups = group_similar(titles, 0.6)
    assert sorted(at for group in groups for at in group) == list(range(len(titles)))
    assert all(group == sorted(group) for group in groups)
    where = {at: n for n, group in enumerate(groups) for at in group}
    for one, title in enumerate(titles):
        for other, another in enumerate(titles):
            if normalize(title) and normalize(title) == normalize(another):
                assert where[one] == where[other]


def test_what_is_far_from_alike_is_never_joined():
    chance = random.Random(1)
    titles = ["".join(chance.choices("abcdefghijklmnopqrstuvwxyz ", k=60)) for _ in range(300)]
    assert len(group_similar(titles, 0.6)) == 300


def test_nearly_all_that_is_alike_enough_is_found():
    """LSH may miss some; the bands are chosen so that it is few."""
    chance = random.Random(2)
    found = pairs = 0
    for _ in range(200):
        one = "".join(chance.choices("abcdefghijklmnopqrstuvwxyz ", k=60))
        at = chance.randrange(50)
        other = f"{one[:at]}#{one[at + 2 :]}"
        if similarity(normalize(one), normalize(other)) >= 0.6:
            pairs += 1
            found += len(group_similar([one, other], 0.6)) == 1
    assert pairs > 50
    assert found / pairs > 0.95


def test_thousands_in_one_mould_are_compared_with_few_each(monkeypatch):
    compared = 0

    def counted(one, other):
        nonlocal compared
        compared += 1
        return similarity(one, other)

    monkeypatch.setattr("services.vexy_ai.digest.similarity", counted)
    monkeypatch.setattr("services.vexy_ai.digest.MAX_COMPARED", 8)
    chance = random.Random(3)
    titles = [f"{''.join(chance.choices('abcdefgh', k=14))} hits a new high of the year" for _ in range(300)]
    assert len(group_similar(titles, 0.9)) == 300
    assert compared <= 8 * 300


@pytest.mark.parametrize("similar", [0.1, 1.0])
def test_the_ends_of_the_scale_work(similar):
    assert group_similar(["a b", "a b", "x y"], similar) == [[0, 1], [2]]


WINDOW = "1795198200-1795198500"
NOTES = [
    Note("1", "a", "Acme rises", "", ("ACME",), ("profits",), 0.8),
    Note("2", "b", "Acme is rising", "https://b.example/2", ("ACME", "X"), (), 0.4),
    Note("3", "a", "Rain", "", (), (), 0.0),
]
STORY = make_story(NOTES[:2])


def test_a_story_is_what_its_notes_have_in_common_told_by_the_oldest():
    assert (
        Story(
            id="1",
            titles=("Acme rises", "Acme is rising"),
            link="https://b.example/2",
            items=2,
            feeds=("a", "b"),
            tickers=("ACME", "X"),
            topics=("profits",),
            sentiment=STORY.sentiment,
        )
        == STORY
    )
    assert STORY.title == "Acme rises"
    assert STORY.line() == "- Acme rises (2 items from a, b; ACME, X; sentiment +0.6)"
    assert make_story(NOTES[2:]).line() == "- Rain (a)"
    assert make_story([Note("4")]).line() == "- without a title"


def test_the_largest_stories_are_shown_of_equals_the_older():
    small, other = make_story(NOTES[2:]), make_story([Note("9")])
    assert rank_stories([small, other, STORY], 2) == [STORY, small]


def test_summaries_go_to_their_stories_in_order():
    stories = [STORY, make_story(NOTES[2:]), make_story([Note("9")])]
    assert [each.summary for each in add_summaries(stories, ["one", None])] == ["one", None, None]


def test_a_digest_tells_stories_moves_and_losses():
    seen = WindowContent(
        notes=4,
        first="1-0",
        last="2-0",
        moves=(PriceMove("AAA", 100.0, 101.0, 102.0, 99.0, 5), PriceMove("BBB", 10.0, 9.0, 10.0, 9.0, 5)),
        outages=(ProbeOutage("site", 3, 4, "tcp refused"),),
    )
    stories = add_summaries([STORY], ["Acme rose. It may rise more."])
    found = Digest(WINDOW, seen, NOTES, stories, count=2, summary_result=SummaryResult(1, "timeout")).fields(
        5.0
    )
    assert {name: found[name] for name in ("kind", "id", "window", "from", "to", "ts", "items", "read")} == {
        "kind": "digest",
        "id": f"digest:{WINDOW}",
        "window": WINDOW,
        "from": "1795198200",
        "to": "1795198500",
        "ts": "5.000",
        "items": "4",
        "read": "3",
    }
    assert (found["summaries"], found["plain"]) == ("1", "timeout")
    assert orjson.loads(found["tickers"]) == {"ACME": 2, "X": 1}
    assert [each["change_pct"] for each in orjson.loads(found["moves"])] == [-10.0, 1.0]
    assert orjson.loads(found["unreachable"]) == [
        {"target": "site", "failed": 3, "probes": 4, "why": "tcp refused"}
    ]
    assert orjson.loads(found["stories"])[0]["summary"] == "Acme rose. It may rise more."
    assert found["text"].splitlines() == [
        "2026-11-20 18:10:00 to 2026-11-20 18:15:00 UTC: 4 items in 2 stories",
        "1 of them are not in here: they were trimmed off, or too many",
        "- Acme rises (2 items from a, b; ACME, X; sentiment +0.6)",
        "  Acme rose. It may rise more.",
        "and 1 story more",
        "Moved: BBB -10.00 %, AAA +1.00 %",
        "Out of reach: site (3 of 4 probes: tcp refused)",
        "Without all summaries: timeout",
    ]


def test_a_plain_digest_that_nobody_was_to_sum_up_does_not_mention_it():
    found = Digest(WINDOW, WindowContent(1, "", ""), NOTES[:1], [], count=1).fields(5.0)
    assert "plain" not in found
    assert found["summaries"] == "0"


def test_a_digest_of_the_worst_is_still_an_entry_that_can_be_read():
    names = tuple(f"{n}" + "x" * 90 for n in range(20))
    notes = [
        Note("i" * 200, f"f{n}" + "f" * 190, "t" * 200, "https://" + "l" * 900, names, names)
        for n in range(300)
    ]
    stories = [make_story(notes[at : at + 3]) for at in range(0, 300, 3)]
    seen = WindowContent(
        10_000,
        "",
        "",
        tuple(PriceMove(f"S{n}", 1.0, 2.0, 3.0, 1.0, 1) for n in range(5000)),
        tuple(ProbeOutage("t" * 100, 1, 1, "w" * 100) for _ in range(500)),
    )
    found = Digest(
        WINDOW, seen, notes, rank_stories(stories, 100), count=100, summary_result=SummaryResult(0, "x")
    ).fields(5.0)
    assert sum(map(len, found.values())) < 600_000
    assert len(orjson.loads(found["moves"])) == 100
