"""Holds README, CHANGELOG and docs/ to the code: what they name exists, and what exists is named."""

import importlib
import re
from pathlib import Path

import orjson
import pytest

from marketswarm import bus
from marketswarm.exit import Code
from marketswarm.liveness import Reason
from marketswarm.settings import Common
from marketswarm.truth import load

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def blocks(page: Path, language: str) -> list[str]:
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
    for document in documents(page):
        assert isinstance(orjson.loads(document), dict)


def table(page: str, heading: str) -> list[list[str]]:
    """The rows of the first table under a heading, without its head."""
    text = (ROOT / page).read_text(encoding="utf-8")
    under = text.split(f"\n{heading}\n", 1)[1]
    rows = re.search(r"(?:^\|.*\n)+", under, re.MULTILINE)
    assert rows, f"{page}: no table under {heading}"
    return [[cell.strip() for cell in row.strip("|").split(" | ")] for row in rows[0].splitlines()[2:]]


def subclasses(kind: type) -> set[type]:
    return {kind}.union(*(subclasses(sub) for sub in kind.__subclasses__()))


def test_each_variable_that_is_read_is_in_the_table_and_each_in_the_table_is_read():
    for settings in ROOT.glob("services/*/settings.py"):
        importlib.import_module(f"services.{settings.parent.name}.settings")
    read = {name.upper() for kind in subclasses(Common) for name in kind.model_fields}
    shown = {
        name
        for row in table("docs/operating.md", "## Environment")
        for name in re.findall("`([A-Z_]+)`", row[0])
    }
    assert shown - {"SYSTEM_REDIS_URL", "MARKET_REDIS_URL"} == read


def test_the_defaults_in_the_table_are_those_in_force():
    shown = {row[0].strip("`"): row[1].strip("`") for row in table("docs/operating.md", "## Environment")}
    for kind in subclasses(Common):
        for name, field in kind.model_fields.items():
            if isinstance(field.default, int | float | str | Path):
                default = f"{field.default:g}" if isinstance(field.default, float) else str(field.default)
                assert shown[name.upper()] == default, name


def test_the_exit_codes_are_all_there():
    assert [int(row[0]) for row in table("docs/operating.md", "## Exit codes")] == sorted(Code)


def test_each_reason_is_explained():
    text = (ROOT / "docs/detection.md").read_text(encoding="utf-8")
    shown = set(
        re.findall(r"^\| `([a-z_]+)` \|", text.split("\n## Reasons\n")[1].split("\n## ")[0], re.MULTILINE)
    )
    of_buses = {reason for _, reason in bus._BY_TYPE + bus._BY_WORD} | {"refused", "error", "deaf"}
    assert shown - {"reason"} == {*Reason, *of_buses}


def test_each_service_that_is_shown_is_a_valid_truth():
    found = [
        document for page in PAGES for document in documents(page) if "services" in orjson.loads(document)
    ]
    assert found
    for block in found:
        assert load(block.encode()).truth.services
