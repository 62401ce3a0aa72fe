"""Holds the pages to themselves: links lead somewhere, examples are what they say they are."""

import re

import orjson
import pytest

from marketswarm.agent import service_config
from marketswarm.beat import Beat, parse_beat
from marketswarm.event import Event, parse_event
from marketswarm.truth import parse_truth
from support.pages import PAGES, ROOT, anchors, blocks, documents, every_page

SERVICES = sorted((ROOT / "docs/services").glob("*.md"))


@every_page
def test_each_link_leads_somewhere(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if link.startswith("https://"):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), f"{link}: there is no such file"
        assert not anchor or anchor in anchors(target), f"{link}: {target.name} has no such heading"


@every_page
def test_each_page_is_linked_from_the_one_above_it(page):
    """A page in a folder from the page that is called as the folder."""
    if page.parent != ROOT:
        above = ROOT / "README.md" if page.parent.name == "docs" else page.parent.with_suffix(".md")
        assert f"({page.relative_to(above.parent).as_posix()})" in above.read_text(encoding="utf-8")


def test_each_json_that_is_shown_is_what_it_says():
    kinds = set()
    pages = [page for page in PAGES if page.parent.name != "services"]  # those show other things too
    for document in (document for page in pages for document in documents(page)):
        found = orjson.loads(document)
        if "services" in found:
            kinds.add("truth")
            assert parse_truth(document.encode()).truth.services
        elif "type" in found:
            kinds.add("event")
            assert isinstance(parse_event(document.encode()), Event)
        else:
            kinds.add("beat")
            assert isinstance(parse_beat(document.encode(), found["svc"]), Beat)
    assert kinds >= {"truth", "event"}


@pytest.mark.parametrize("page", SERVICES, ids=lambda page: page.name)
def test_each_truth_that_a_service_is_shown_with_would_be_seeded(page):
    whole = [block for block in blocks(page, "json") if block.startswith("{\n")]
    truths = [block.encode() for block in whole if "services" in orjson.loads(block)]
    # massive's shows its section alone: see test_massive.py; the others tell of no service
    assert truths or page.name in ("massive.md", "sources.md", "sources-catalog.md", "features.md")
    for each in truths:
        assert service_config.load_with_sections(each).warnings == ()


def test_the_two_commands_are_on_the_first_screen():
    first_screen = "\n".join((ROOT / "README.md").read_text(encoding="utf-8").splitlines()[:24])
    assert re.search(r"^make run\b", first_screen, re.MULTILINE)
    assert re.search(r"^make test\b", first_screen, re.MULTILINE)
