"""Hash entries into a Merkle tree, and prove what it has, as RFC 6962 and RFC 9162 describe. Pure.

A tree only grows. It is kept as the hashes of its full subtrees: node (level, number) covers the entries from
number * 2^level on, 2^level of them, and never changes once it is there. The root of any size, and any proof,
is made of a few of them, so a reader asks for these alone.
"""

from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from typing import Final

HASH_BYTES: Final = 32
MAX_SIZE: Final = 2**63
"""No tree has so many entries; so no proof has more hashes than MAX_PROOF."""
MAX_PROOF: Final = 64
EMPTY_ROOT: Final = sha256(b"").digest()

Node = tuple[int, int]
"""The level and the number of a full subtree."""
Span = tuple[int, int]
"""The entries from the first number up to the second one, which is not among them."""


def hash_entry(content: bytes) -> bytes:
    return sha256(b"\x00" + content).digest()


def hash_pair(left: bytes, right: bytes) -> bytes:
    return sha256(b"\x01" + left + right).digest()


def split_span(span: Span) -> list[Node]:
    """Return the full subtrees that a subtree of the tree is made of, from the left, the largest first."""
    nodes: list[Node] = []
    start, end = span
    while start < end:
        level = (end - start).bit_length() - 1
        nodes.append((level, start >> level))
        start += 1 << level
    return nodes


def hash_span(span: Span, nodes: Mapping[Node, bytes]) -> bytes:
    """Return the root of a subtree. Raises KeyError for a node that is missing in `nodes`."""
    parts = [nodes[each] for each in split_span(span)]
    if not parts:
        return EMPTY_ROOT
    found = parts.pop()
    while parts:
        found = hash_pair(parts.pop(), found)
    return found


def hash_tree(entries: Sequence[bytes]) -> bytes:
    """Return the root of a tree of which all hashes of entries are at hand."""
    level = list(entries)
    while len(level) > 1:
        pairs = [hash_pair(*level[at : at + 2]) for at in range(0, len(level) - 1, 2)]
        level = [*pairs, *level[len(level) - len(level) % 2 :]]
    return level[0] if level else EMPTY_ROOT


def append_entry(size: int, edge: Mapping[Node, bytes], entry: bytes) -> Iterator[tuple[Node, bytes]]:
    """Yield the nodes that an entry adds to a tree of `size` entries: its own, and each one it completes.

    `edge` has at least the nodes of `split_span((0, size))`. Raises KeyError if it does not.
    """
    level, number, found = 0, size, entry
    yield (level, number), found
    while number % 2:
        found = hash_pair(edge[level, number - 1], found)
        level, number = level + 1, number // 2
        yield (level, number), found


def list_inclusion(index: int, size: int) -> list[Span]:
    """Return the subtrees whose roots prove that a tree of `size` has the entry `index`, in their order.

    Raises ValueError if it can't have it.
    """
    if not 0 <= index < size:
        raise ValueError(f"a tree of {size} entries has no entry {index}")
    spans: list[Span] = []
    start, end = 0, size
    while end - start > 1:
        middle = start + split_tree(end - start)
        if index < middle:
            spans.append((middle, end))
            end = middle
        else:
            spans.append((start, middle))
            start = middle
    return spans[::-1]


def list_consistency(before: int, size: int) -> list[Span]:
    """Return the subtrees whose roots prove that a tree of `size` begins with the one of `before` entries.

    Raises ValueError if there is no such proof.
    """
    if not 0 <= before <= size:
        raise ValueError(f"a tree of {size} entries does not begin with {before}")
    if before in {0, size}:
        return []
    spans: list[Span] = []
    start, end = 0, size
    while before != end:
        middle = start + split_tree(end - start)
        if before <= middle:
            spans.append((middle, end))
            end = middle
        else:
            spans.append((start, middle))
            start = middle
    if start:
        spans.append((start, end))
    return spans[::-1]


def split_tree(size: int) -> int:
    """Return the greatest power of two below `size`."""
    return 1 << ((size - 1).bit_length() - 1)


def is_included(entry: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> bool:
    """Return whether a proof shows that the tree with this root has an entry at `index`."""
    if not 0 <= index < size <= MAX_SIZE or len(proof) > MAX_PROOF:
        return False
    number, last, found = index, size - 1, entry
    for each in proof:
        if not last:
            return False
        if number % 2 or number == last:
            found = hash_pair(each, found)
            while not number % 2 and number:
                number, last = number >> 1, last >> 1
        else:
            found = hash_pair(found, each)
        number, last = number >> 1, last >> 1
    return not last and found == root


def is_consistent(before: int, size: int, proof: Sequence[bytes], root_before: bytes, root: bytes) -> bool:
    """Return whether a proof shows that a tree begins with all entries of an earlier one."""
    if not 0 <= before <= size <= MAX_SIZE or len(proof) > MAX_PROOF:
        return False
    if before == 0:
        return not proof and root_before == EMPTY_ROOT and (size > 0 or root == EMPTY_ROOT)
    if before == size:
        return not proof and root_before == root
    hashes = list(proof)
    if before & (before - 1) == 0:
        hashes.insert(0, root_before)  # a full subtree of the later tree: the proof need not say it
    if not hashes:
        return False
    return _fold_both(before - 1, size - 1, hashes) == (root_before, root)


def _fold_both(number: int, last: int, hashes: Sequence[bytes]) -> tuple[bytes, bytes] | None:
    """Return the roots of the earlier and the later tree; None for a proof that is too long or too short."""
    while number % 2:
        number, last = number >> 1, last >> 1
    old = new = hashes[0]
    for each in hashes[1:]:
        if not last:
            return None
        if number % 2 or number == last:
            old, new = hash_pair(each, old), hash_pair(each, new)
            while not number % 2 and number:
                number, last = number >> 1, last >> 1
        else:
            new = hash_pair(new, each)
        number, last = number >> 1, last >> 1
    return None if last else (old, new)
