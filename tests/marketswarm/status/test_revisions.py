"""The revisions that a bus keeps are read one by one, and what is no revision is skipped."""

import hashlib

import pytest

from marketswarm.bus import Bus, BusError
from marketswarm.keys import TRUTH_HISTORY
from marketswarm.status.revisions import MAX_REVISIONS, Revision, parse_revision, read_revisions
from marketswarm.testing import MemoryBuses
from marketswarm.truth.parse import MAX_BYTES
from support.rig import Server

DOC = b"{}"
SHA256 = hashlib.sha256(DOC).hexdigest()
FIELDS = {b"revision": b"3", b"sha256": SHA256.encode(), b"doc": DOC}
AUTHOR = {b"seeded_at": b"1000.5", b"seeded_by": b"kim"}


def test_an_entry_has_its_number_its_hash_its_author_and_its_time():
    found = parse_revision(b"2000000-0", FIELDS | AUTHOR)
    assert found == Revision(3, SHA256, DOC, 1000.5, "kim")
    assert found.is_intact


def test_an_entry_without_an_author_has_the_time_of_its_writing():
    assert parse_revision(b"2000000-0", FIELDS) == Revision(3, SHA256, DOC, 2000.0, "")


@pytest.mark.parametrize(
    "wrong",
    [
        {b"revision": b"-3"},
        {b"revision": b"9" * 16},
        {b"revision": "\N{SUPERSCRIPT TWO}".encode()},
        {b"revision": b""},
        {b"sha256": b"f00"},
        {b"sha256": SHA256.upper().encode()},
        {b"sha256": b"\xff" * 64},
    ],
)
def test_what_is_no_revision_is_none(wrong):
    assert parse_revision(b"1-0", FIELDS | wrong) is None
    assert parse_revision(b"1-0", {}) is None
    assert parse_revision(b"1-0", None) is None


def test_a_hostile_author_and_time_are_cut_and_left_out():
    found = parse_revision(b"2000-0", FIELDS | {b"seeded_by": b"\xff" * 9999, b"seeded_at": b"1e999"})
    assert found is not None
    assert (len(found.seeded_by), found.seeded_at) == (200, 2.0)
    late = parse_revision(b"18446744073709551615-0", FIELDS)
    assert late is not None
    assert late.seeded_at < 1e12


def test_a_document_without_its_hash_is_not_intact():
    changed = parse_revision(b"1-0", FIELDS | {b"doc": b"[]"})
    assert changed is not None
    assert not changed.is_intact


async def numbers(bus) -> list[int]:
    return [one.number async for one in read_revisions(bus)]


async def test_the_newest_comes_first_and_each_number_once():
    bus = MemoryBuses()("system-redis")
    assert await numbers(bus) == []
    for number in (1, 2, 2, 3):
        await bus.ask(bus.client.xadd(TRUTH_HISTORY, FIELDS | {b"revision": b"%d" % number}))
    await bus.ask(bus.client.xadd(TRUTH_HISTORY, {"x": "y"}))
    assert await numbers(bus) == [3, 2, 1]


async def test_a_flood_of_entries_is_read_up_to_a_limit():
    bus = MemoryBuses()("system-redis")
    for number in range(MAX_REVISIONS + 60):
        await bus.ask(bus.client.xadd(TRUTH_HISTORY, FIELDS | {b"revision": b"%d" % number}))
    assert await numbers(bus) == list(range(MAX_REVISIONS + 59, 59, -1))


async def test_documents_as_long_as_a_truth_may_be_are_read_one_by_one(tmp_path):
    with Server(tmp_path) as server:
        for number in (1, 2, 3):
            fields = ("revision", number, "sha256", SHA256, "doc", "x" * MAX_BYTES)
            server.cmd("XADD", TRUTH_HISTORY, "*", *fields)
        bus = Bus("system-redis", server.url)
        try:
            found = [one async for one in read_revisions(bus)]
            assert [(one.number, len(one.document)) for one in found] == [
                (number, MAX_BYTES) for number in (3, 2, 1)
            ]
            server.cmd("XADD", TRUTH_HISTORY, "*", *fields, "more", "x" * MAX_BYTES)
            with pytest.raises(BusError):
                await numbers(bus)
        finally:
            await bus.aclose()
