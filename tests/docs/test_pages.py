"""Holds the pages to themselves: links lead somewhere, examples are what they say they are."""

import re

import orjson

from marketswarm.agent import service_config
from marketswarm.beat import Beat, parse_beat
from marketswarm.event import Event, parse_event
from marketswarm.truth import parse_truth
from support.pages import PAGES, ROOT, anchors, blocks, documents

WITHOUT_TRUTH = {
    *(
        "massive.md",
        "medic-decisions.md",
        "sources.md",
        "sources-catalog.md",
        "features.md",
        "consensus.md",
        "signals.md",
        "signals-voters.md",
        "signals-audit.md",
        "witness.md",
        "engine.md",
        "backtest.md",
    ),
    "client.md",
    "backtests.md",
    "signals-board.md",
}
SERVICES = sorted((ROOT / "docs/services").glob("*.md"))


def test_each_link_leads_somewhere_and_each_page_is_linked_from_the_one_above_it():
    assert [(str(page.relative_to(ROOT)), what) for page in PAGES for what in find_wrong_links(page)] == []


def find_wrong_links(page):
    """Yield the links that lead nowhere, and the page above if it has no link here."""
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if link.startswith("https://"):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            yield link
    if page.parent != ROOT:  # a page in a folder is linked from the page that is called as the folder
        above = ROOT / "README.md" if page.parent.name == "docs" else page.parent.with_suffix(".md")
        if f"({page.relative_to(above.parent).as_posix()})" not in above.read_text(encoding="utf-8"):
            yield f"{above.name} has no link to it"


def test_a_link_that_leads_nowhere_is_found(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# One\n[a](#one) [b](#two) [c](gone.md) [d](page.md#one)\n", encoding="utf-8")
    (tmp_path.with_suffix(".md")).write_text("[page](elsewhere.md)\n", encoding="utf-8")
    assert list(find_wrong_links(page)) == ["#two", "gone.md", f"{tmp_path.name}.md has no link to it"]


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


def test_each_truth_that_a_service_is_shown_with_would_be_seeded():
    for page in SERVICES:
        whole = [block for block in blocks(page, "json") if block.startswith("{\n")]
        truths = [block.encode() for block in whole if "services" in orjson.loads(block)]
        # massive's shows its section alone: see test_massive.py; the others tell of no service
        assert truths or page.name in WITHOUT_TRUTH, page
        for each in truths:
            assert service_config.load_with_sections(each).warnings == (), page


def test_the_two_commands_are_on_the_first_screen():
    first_screen = "\n".join((ROOT / "README.md").read_text(encoding="utf-8").splitlines()[:24])
    assert re.search(r"^make run\b", first_screen, re.MULTILINE)
    assert re.search(r"^make test\b", first_screen, re.MULTILINE)
