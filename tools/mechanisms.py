"""Count the lines of the product, its functions of one name, and the places of each mechanism: `make count`.

The mechanisms stand in mechanisms.toml, each with its home and with the files that may do the same.
"""

import ast
import re
import sys
import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).parents[1]
PRODUCT: Final = ("marketswarm", "bootstrap", "healer", "sentinel", "notifier", "services")
MANY: Final = 8
"""Functions of one name that are worth a line."""


def read_sources(root: Path, parts: Iterable[str]) -> dict[str, str]:
    """Return the text of each Python file below these folders, by its path from `root`."""
    files = (file for part in parts for file in sorted((root / part).rglob("*.py")))
    return {file.relative_to(root).as_posix(): file.read_text(encoding="utf-8") for file in files}


def read_mechanisms() -> list[dict[str, Any]]:
    with Path(__file__).with_suffix(".toml").open("rb") as file:
        found: list[dict[str, Any]] = tomllib.load(file)["mechanism"]
    return found


def find_homes(mechanism: Mapping[str, Any], sources: Mapping[str, str]) -> list[str]:
    """Return the files in which the mark of a mechanism stands."""
    return [name for name, text in sources.items() if re.search(mechanism["mark"], text)]


def count_lines(sources: Mapping[str, str]) -> Counter[str]:
    """Return the lines of each part, such as `notifier` or `services/board`."""
    counted: Counter[str] = Counter()
    for name, text in sources.items():
        path = name.split("/")
        depth = 2 if len(path) > 2 else 1
        counted["/".join(path[:depth])] += text.count("\n")
    return counted


def count_functions(sources: Mapping[str, str]) -> Counter[str]:
    """Return how many functions and methods have each name; those that Python calls by itself don't count."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    nodes = (node for text in sources.values() for node in ast.walk(ast.parse(text)))
    return Counter(node.name for node in nodes if isinstance(node, kinds) and not node.name.startswith("__"))


def report(sources: Mapping[str, str]) -> Iterator[str]:
    lines = count_lines(sources)
    yield f"{sum(lines.values()):>8,} lines of Python in {len(sources)} files"
    yield from (f"{count:>8,} {part}" for part, count in lines.most_common())
    many = [(name, count) for name, count in count_functions(sources).most_common() if count >= MANY]
    yield "\nfunctions of one name: " + ", ".join(f"{name} {count}" for name, count in many)
    yield "\nplaces of each mechanism:"
    for mechanism in read_mechanisms():
        homes = find_homes(mechanism, sources)
        yield f"{len(homes):>8} {mechanism['what']}: {', '.join(homes)}"


if __name__ == "__main__":
    sys.stdout.writelines(f"{line}\n" for line in report(read_sources(ROOT, PRODUCT)))
