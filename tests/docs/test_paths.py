"""Holds the tables of docs/development.md to what a beat and a miss really pass through."""

import importlib.util

import pytest

from support.pages import ROOT, table

CHECKED_EACH_SECOND = {"notifier/router/incident_state.py"}
"""Files that only the check of all incidents calls: a message passes it if it is under way for a second."""


@pytest.fixture(scope="module")
def paths():
    place = importlib.util.spec_from_file_location("paths", ROOT / "tools" / "paths.py")
    module = importlib.util.module_from_spec(place)
    place.loader.exec_module(module)
    return module


def shown(heading: str) -> set[str]:
    return {cells[0].strip("`") for cells in table("docs/development.md", heading)}


async def test_a_beat_passes_through_the_files_that_the_page_names_and_enters_none_twice(paths):
    trace = await paths.follow_beat()
    assert set(trace.files) == shown("A beat")
    assert trace.reentries == {}
    assert len(trace.files) <= 6


async def test_a_miss_passes_through_the_files_that_the_page_names_and_enters_none_twice(paths):
    trace = await paths.follow_miss()
    assert set(trace.files) == shown("A miss")
    assert trace.reentries == {}
    assert len(trace.files) <= 13


@pytest.mark.live
async def test_a_message_passes_through_the_files_that_the_page_names(paths):
    trace = await paths.follow_message()
    assert set(trace.files) - CHECKED_EACH_SECOND == shown("A message")
