"""Holds README, CHANGELOG and docs/ to the code: what they name exists, and what exists is named."""

import re
from pathlib import Path

import orjson
import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(
        rf"^```{language}\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )


def slug(heading: str) -> str:
    """The anchor that a heading gets, as on GitHub."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def anchors(page: Path) -> set[str]:
    prose = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    return {slug(heading) for heading in re.findall(r"^#+ (.+)$", prose, re.MULTILINE)}


def targets() -> set[str]:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    return set(re.findall(r"^([a-z]+):", makefile, re.MULTILINE))


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
def test_each_make_command_that_is_shown_exists(page):
    text = page.read_text(encoding="utf-8")
    shown = set(re.findall(r"`make ([a-z]+)", text))
    for block in blocks(page, "bash"):
        shown |= set(re.findall(r"^(?:[A-Z_]+=\S+ )*make ([a-z]+)", block, re.MULTILINE))
    assert shown <= targets()


def test_every_make_command_is_in_its_help():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    silent = set(re.findall(r"^([a-z]+):(?!.*## )", makefile, re.MULTILINE))
    assert silent == {"environment"}
    phony = set(re.findall(r"^\.PHONY: (.+)$", makefile, re.MULTILINE)[0].split())
    assert phony == targets()


def test_the_two_commands_are_on_the_first_screen():
    first_screen = "\n".join((ROOT / "README.md").read_text(encoding="utf-8").splitlines()[:24])
    assert re.search(r"^make run\b", first_screen, re.MULTILINE)
    assert re.search(r"^make test\b", first_screen, re.MULTILINE)


@every_page
def test_each_json_block_is_json(page):
    for block in blocks(page, "json"):
        for document in [block] if block.startswith("{\n") else block.splitlines():
            assert isinstance(orjson.loads(document), dict)
