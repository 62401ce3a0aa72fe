"""The tree of a tick's places that is kept is the one that is made anew, whatever changed in it."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.signals.log.entries import PlaceOutcome, join_places, make_place
from services.signals.log.merkle import EMPTY_ROOT, hash_entry, hash_tree, is_included
from services.signals.log.places import PlaceTree, make_following, prove_place


@pytest.mark.parametrize("size", [1, 2, 3, 5, 8, 13, 64, 100])
def test_a_tree_after_changes_is_the_tree_of_what_it_has(size):
    chance = random.Random(size)
    hashes = [hash_entry(b"%d" % at) for at in range(size)]
    tree = PlaceTree(hashes)
    for turn in range(30):
        changed = {
            chance.randrange(size): hash_entry(b"%d %d" % (turn, n)) for n in range(chance.randint(0, 9))
        }
        tree.replace(changed)
        for index, each in changed.items():
            hashes[index] = each
        assert tree.root == hash_tree(hashes)
        index = chance.randrange(size)
        proof = tree.prove(index, b"text")
        assert is_included(hashes[index], index, size, proof.path, tree.root)
        assert tree.find_hash(index) == hashes[index]


def test_a_tree_of_no_place_has_the_root_of_nothing():
    assert PlaceTree(()).root == EMPTY_ROOT
    with pytest.raises(IndexError):
        PlaceTree(()).replace({0: b"x"})


def test_a_place_is_proven_by_its_symbol():
    places = join_places({name: make_place(name, PlaceOutcome.CLOSED, since=3) for name in "BADC"})
    proof = prove_place(places, "C")
    assert (proof.index, proof.text) == (2, places.texts[2])
    assert is_included(places.hashes[2], 2, 4, proof.path, hash_tree(places.hashes))


@given(st.text(min_size=1, max_size=40), st.integers(1, 2**53 - 1), st.sampled_from(list(PlaceOutcome)))
def test_a_place_that_follows_is_written_as_any_other(symbol, tick, outcome):
    following = PlaceOutcome.CLOSED if outcome is PlaceOutcome.CLOSED else PlaceOutcome.UNCHANGED
    assert make_following(symbol, outcome, tick) == make_place(symbol, following, since=tick)
