import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.vexy_ai.stories import alike, joined, normal

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
    assert joined(TITLES, 0.6) == [[0, 2, 3], [1], [4], [5, 6], [7]]


def test_how_like_it_must_be_is_for_the_truth_to_say():
    assert joined(TITLES, 0.95) == [[0, 2], [1], [3], [4], [5], [6], [7]]


def test_the_same_titles_give_the_same_stories_again():
    assert joined(TITLES, 0.6) == joined(TITLES, 0.6)


@settings(max_examples=30)
@given(st.lists(st.text(alphabet="abcd 1ü漢", max_size=30), max_size=20))
def test_each_title_is_in_one_story_and_equal_ones_in_the_same(titles):
    groups = joined(titles, 0.6)
    assert sorted(at for group in groups for at in group) == list(range(len(titles)))
    assert all(group == sorted(group) for group in groups)
    where = {at: n for n, group in enumerate(groups) for at in group}
    for one, title in enumerate(titles):
        for other, another in enumerate(titles):
            if normal(title) and normal(title) == normal(another):
                assert where[one] == where[other]


def test_what_is_far_from_alike_is_never_joined():
    chance = random.Random(1)
    titles = ["".join(chance.choices("abcdefghijklmnopqrstuvwxyz ", k=60)) for _ in range(300)]
    assert len(joined(titles, 0.6)) == 300


def test_nearly_all_that_is_alike_enough_is_found():
    """LSH may miss some; the bands are chosen so that it is few."""
    chance = random.Random(2)
    found = pairs = 0
    for _ in range(200):
        one = "".join(chance.choices("abcdefghijklmnopqrstuvwxyz ", k=60))
        at = chance.randrange(50)
        other = f"{one[:at]}#{one[at + 2 :]}"
        if alike(normal(one), normal(other)) >= 0.6:
            pairs += 1
            found += len(joined([one, other], 0.6)) == 1
    assert pairs > 50
    assert found / pairs > 0.95


def test_thousands_in_one_mould_are_compared_with_few_each(monkeypatch):
    compared = 0

    def counted(one, other):
        nonlocal compared
        compared += 1
        return alike(one, other)

    monkeypatch.setattr("services.vexy_ai.stories.alike", counted)
    chance = random.Random(3)
    titles = [f"{''.join(chance.choices('abcdefgh', k=14))} hits a new high of the year" for _ in range(1000)]
    assert len(joined(titles, 0.9)) == 1000
    assert 10_000 < compared <= 64 * 1000


@pytest.mark.parametrize("similar", [0.1, 1.0])
def test_the_ends_of_the_scale_work(similar):
    assert joined(["a b", "a b", "x y"], similar) == [[0, 1], [2]]
