"""No text makes a regular expression take long: the time of each grows as the text, whoever wrote that.

The texts are made of the pattern itself. A pattern is used as its module uses it: at the begin of a text,
as all of it, or anywhere. The rules of `marketswarm/secret_rules.py` have such a test of their own.
"""

import ast
import importlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.hostile_repetitions import find_superlinear, list_hostile

ROOT = Path(__file__).parents[1]
FOLDERS = ("marketswarm", "services", "healer", "sentinel", "notifier", "bootstrap", "alpine")
USES = ("match", "fullmatch", "search", "sub", "subn", "split", "findall", "finditer")
OWN_TEST = ("marketswarm.redactor", "marketswarm.secret_rules")
BOUNDED = {
    "marketswarm.agent.service_config._INNER_PATH": "only of messages of our own checks",
}
"""Patterns that only ever see text of ours."""


def modules() -> Iterator[tuple[str, Path]]:
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*.py")):
            if "re.compile(" in path.read_text():
                name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
                yield name.removesuffix(".__init__"), path


def patterns() -> Iterator[tuple[str, re.Pattern[Any], set[str]]]:
    """Yield each pattern of a module, its name, and how the module uses it."""
    for module, path in modules():
        if module in OWN_TEST:
            continue
        text, found = path.read_text(), importlib.import_module(module)
        for name, value in vars(found).items():
            if isinstance(value, re.Pattern) and re.search(rf"(?m)^{re.escape(name)}\b.*re\.compile", text):
                used = {use for use in USES if re.search(rf"\b{re.escape(name)}\.{use}\b", text)}
                yield f"{module}.{name}", value, used or {"search"}


def run_of(pattern: re.Pattern[Any], used: set[str]) -> Any:
    if used <= {"fullmatch"}:
        return pattern.fullmatch
    if used <= {"fullmatch", "match"}:
        return pattern.match
    return lambda text: pattern.sub(b"" if isinstance(text, bytes) else "", text)


@pytest.mark.slow
def test_the_time_of_no_expression_grows_faster_than_its_text():
    slow, count = {}, 0
    for name, pattern, used in patterns():
        count += 1
        if name not in BOUNDED:
            found = find_superlinear(run_of(pattern, used), list_hostile(pattern))
            if found:
                slow[name] = found
    assert count > 100, "they are found"
    assert slow == {}


def written_where_used() -> Iterator[tuple[str, re.Pattern[Any], str]]:
    """Yield each pattern that stands in a call such as `re.match("…", text)`, its place, and its use."""
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*.py")):
            text = path.read_text()
            if not re.search(rf"\bre\.(?:{'|'.join(USES)})\(", text):
                continue
            for node in ast.walk(ast.parse(text)):
                match node:
                    case ast.Call(ast.Attribute(ast.Name("re"), use), [ast.Constant(pattern), *_]) if (
                        use in USES
                    ):
                        yield f"{path.relative_to(ROOT)}:{node.lineno}", re.compile(pattern), use


@pytest.mark.slow
def test_no_expression_that_is_written_where_it_is_used_takes_long():
    found = list(written_where_used())
    assert len(found) > 10, "they are found"
    assert [
        where
        for where, pattern, use in found
        if find_superlinear(run_of(pattern, {use}), list_hostile(pattern))
    ] == []


@pytest.mark.slow
@pytest.mark.parametrize(
    "bad",
    [r"(?i)\bx-(?:api|auth|access|amz|vault)[a-z-]*[:=]", r"is\s+(?:now\s+)?:?\s*x", r"[a-z]+://[^\s]*@"],
)
def test_an_expression_that_takes_long_is_found(bad):
    pattern = re.compile(bad)
    assert find_superlinear(pattern.search, list_hostile(pattern)) != []
