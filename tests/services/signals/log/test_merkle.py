"""Trees are those of RFC 6962; what a proof shows is so, and whatever is changed in one is found."""

from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.signals.log.merkle import (
    EMPTY_ROOT,
    append_entry,
    hash_entry,
    hash_pair,
    hash_span,
    hash_tree,
    is_consistent,
    is_included,
    list_consistency,
    list_inclusion,
    split_span,
)

# the entries and roots by which implementations of Certificate Transparency are held to each other
PUBLIC = [
    bytes.fromhex(each)
    for each in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
PUBLIC_ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


def make_entries(count: int) -> list[bytes]:
    return [hash_entry(b"%d" % number) for number in range(count)]


def grow(entries: list[bytes]) -> dict:
    nodes: dict = {}
    for size, entry in enumerate(entries):
        edge = {node: nodes[node] for node in split_span((0, size))}
        nodes.update(append_entry(size, edge, entry))
    return nodes


def root_by_definition(entries: list[bytes]) -> bytes:
    if len(entries) <= 1:
        return entries[0] if entries else sha256(b"").digest()
    half = 1
    while 2 * half < len(entries):
        half *= 2
    return hash_pair(root_by_definition(entries[:half]), root_by_definition(entries[half:]))


@pytest.mark.parametrize("count", range(1, 9))
def test_roots_are_the_published_ones(count):
    entries = [hash_entry(each) for each in PUBLIC[:count]]
    assert hash_tree(entries).hex() == PUBLIC_ROOTS[count - 1]
    assert hash_span((0, count), grow(entries)).hex() == PUBLIC_ROOTS[count - 1]


def test_an_empty_tree_has_the_hash_of_nothing():
    assert hash_tree([]) == hash_span((0, 0), {}) == EMPTY_ROOT == sha256(b"").digest()


def test_a_published_proof_is_the_one_that_is_made():
    entries = [hash_entry(each) for each in PUBLIC]
    nodes = grow(entries)
    made = [hash_span(span, nodes).hex() for span in list_inclusion(0, 8)]
    assert made == [
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ]
    made = [hash_span(span, nodes).hex() for span in list_consistency(6, 8)]
    assert made == [
        "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ]


@given(st.integers(1, 200), st.data())
def test_each_entry_is_proven_and_nothing_else_is(size, data):
    entries = make_entries(size)
    nodes, root = grow(entries), root_by_definition(entries)
    index = data.draw(st.integers(0, size - 1))
    proof = [hash_span(span, nodes) for span in list_inclusion(index, size)]
    assert is_included(entries[index], index, size, proof, root)
    other = data.draw(st.integers(0, size + 3))
    if other != index:
        assert not is_included(entries[index], other, size, proof, root)
    assert not is_included(hash_entry(b"false"), index, size, proof, root)
    assert not is_included(entries[index], index, size, [*proof, root], root)
    if proof:
        at = data.draw(st.integers(0, len(proof) - 1))
        assert not is_included(entries[index], index, size, proof[:at] + proof[at + 1 :], root)
        changed = [*proof[:at], hash_entry(proof[at]), *proof[at + 1 :]]
        assert not is_included(entries[index], index, size, changed, root)


@given(st.integers(0, 200), st.data())
def test_a_tree_that_grew_is_consistent_and_one_that_changed_is_not(size, data):
    entries = make_entries(size)
    before = data.draw(st.integers(0, size))
    nodes = grow(entries)
    roots = [hash_span((0, count), nodes) for count in (before, size)]
    assert roots == [root_by_definition(entries[:before]), root_by_definition(entries)]
    proof = [hash_span(span, nodes) for span in list_consistency(before, size)]
    assert is_consistent(before, size, proof, *roots)
    if before:
        changed = entries.copy()
        changed[data.draw(st.integers(0, before - 1))] = hash_entry(b"rewritten")
        others = grow(changed)
        forged = [hash_span(span, others) for span in list_consistency(before, size)]
        assert not is_consistent(before, size, forged, roots[0], hash_span((0, size), others))
    assert not is_consistent(before, size, [*proof, EMPTY_ROOT], *roots)
    if proof:
        assert not is_consistent(before, size, proof[1:], *roots)
        assert not is_consistent(before, size, [], *roots)


@pytest.mark.parametrize(("index", "size"), [(-1, 3), (3, 3), (0, 0)])
def test_there_is_no_proof_of_what_is_not_there(index, size):
    with pytest.raises(ValueError, match="no entry"):
        list_inclusion(index, size)
    assert not is_included(EMPTY_ROOT, index, size, [], EMPTY_ROOT)


def test_there_is_no_proof_of_a_tree_that_shrank():
    with pytest.raises(ValueError, match="does not begin"):
        list_consistency(4, 3)
    assert not is_consistent(4, 3, [], EMPTY_ROOT, EMPTY_ROOT)


def test_a_proof_of_endless_length_is_refused_unread():
    endless = [EMPTY_ROOT] * 1_000_000
    assert not is_included(EMPTY_ROOT, 0, 2**63, endless, EMPTY_ROOT)
    assert not is_consistent(1, 2**63, endless, EMPTY_ROOT, EMPTY_ROOT)
