"""Holds the pages to themselves: links lead somewhere, examples are what they say they are."""

import re

import orjson
from pages import PAGES, ROOT, anchors, documents, every_page

from marketswarm.beat import Beat
from marketswarm.beat import parse as parse_beat
from marketswarm.event import Event
from marketswarm.event import parse as parse_event
from marketswarm.truth import load


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
def test_each_page_in_docs_is_linked_from_the_readme(page):
    assert page.parent == ROOT or f"(docs/{page.name})" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_each_json_that_is_shown_is_what_it_says():
    kinds = set()
    for document in (document for page in PAGES for document in documents(page)):
        found = orjson.loads(document)
        if "services" in found:
            kinds.add("truth")
            assert load(document.encode()).truth.services
        elif "type" in found:
            kinds.add("event")
            assert isinstance(parse_event(document.encode()), Event)
        else:
            kinds.add("beat")
            assert isinstance(parse_beat(document.encode(), found["svc"]), Beat)
    assert kinds >= {"truth", "event"}


def test_the_two_commands_are_on_the_first_screen():
    first_screen = "\n".join((ROOT / "README.md").read_text(encoding="utf-8").splitlines()[:24])
    assert re.search(r"^make run\b", first_screen, re.MULTILINE)
    assert re.search(r"^make test\b", first_screen, re.MULTILINE)
