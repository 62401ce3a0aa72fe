"""Reads README, CHANGELOG and docs/: their blocks, tables and anchors. What the tests in tests/docs share."""

import re
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(page: Path, language: str) -> list[str]:
    """The blocks that are said to be in a language."""
    return re.findall(
        rf"^```{language}\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )


def documents(page: Path) -> list[str]:
    """The JSON that a page shows: one document a block, or one a line."""
    return [
        document
        for block in blocks(page, "json")
        for document in ([block] if block.startswith("{\n") else block.splitlines())
    ]


def commands(page: Path) -> list[str]:
    """Every command line that a page shows: in blocks, after a prompt, and `make …` in a sentence."""
    text = page.read_text(encoding="utf-8")
    scripts = [block.replace("\\\n", " ") for block in blocks(page, "bash")]
    shown = [line.removeprefix("$ ") for block in scripts for line in block.splitlines()]
    shown += [
        line[2:] for block in blocks(page, "text") for line in block.splitlines() if line.startswith("$ ")
    ]
    return shown + re.findall(r"`((?:make|marketswarm) [^`]+)`", text)


def slug(heading: str) -> str:
    """The anchor that a heading gets, as on GitHub."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


@cache
def anchors(page: Path) -> set[str]:
    prose = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    return {slug(heading) for heading in re.findall(r"^#+ (.+)$", prose, re.MULTILINE)}


def section(page: str, heading: str) -> str:
    """The text under a heading of any rank, up to the next heading of that rank or a higher one."""
    text = (ROOT / page).read_text(encoding="utf-8")
    found = re.search(rf"^(##+) {re.escape(heading)}$\n", text, re.MULTILINE)
    assert found, f"{page} has no heading {heading!r}"
    return re.split(rf"^#{{2,{len(found[1])}}} ", text[found.end() :], maxsplit=1, flags=re.MULTILINE)[0]


def shown(page: str, heading: str) -> str:
    """The commands under a heading of any rank, up to the next heading."""
    text = (ROOT / page).read_text(encoding="utf-8")
    under, found = "", []
    for part in re.finditer(r"^```(\w*)\n(.*?)^```$|^#+ ([^\n]+)$", text, re.MULTILINE | re.DOTALL):
        language, block, name = part.groups()
        under = name or under
        if under == heading and language == "bash":
            found.append(block)
    assert found, f"{page} shows no commands under {heading!r}"
    return "".join(found)


def get_command(page: str, heading: str, part: str) -> str:
    """Return the one command under a heading that has `part` in it, without its remark."""
    lines = shown(page, heading).replace("\\\n", " ").splitlines()
    [found] = [line for line in lines if part in line]
    return found.partition("  #")[0].strip()


def table(page: str, heading: str, columns: tuple[str, ...] = ()) -> list[list[str]]:
    """The rows of the tables under a heading, without their heads; `columns` chooses among tables."""
    rows = [row for row in section(page, heading).splitlines() if row.startswith("|")]
    cells = [[cell.strip() for cell in row.strip("|").split(" | ")] for row in rows]
    heads = [at - 1 for at, row in enumerate(rows) if set(row) <= set("|- ")]
    ends = [*heads[1:], len(rows)]
    return [
        row
        for head, end in zip(heads, ends, strict=True)
        if cells[head][: len(columns)] == list(columns)
        for row in cells[head + 2 : end]
    ]
