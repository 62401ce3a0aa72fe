"""Count what the product is made of, for `make count`, and hold each package to its budget in budgets.toml.

A line of code is neither blank, nor a comment, nor in a docstring (a string that stands alone). So nothing is
gained by cutting words. The mechanisms stand in mechanisms.toml, each with its home and with the files that
may do the same.
"""

import ast
import re
import sys
import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final, NamedTuple

import grimp

ROOT: Final = Path(__file__).parents[1]
PRODUCT: Final = ("marketswarm", "bootstrap", "healer", "sentinel", "notifier", "services")
MANY: Final = 8
"""Functions of one name that are worth a line."""
SMALL: Final = 100
"""A module with fewer lines is small."""
BUDGETS: Final = Path(__file__).with_name("budgets.toml")
CALLBACK: Final = re.compile(r"\b(Callable|Awaitable)\b")

Function = ast.FunctionDef | ast.AsyncFunctionDef


class Effect(NamedTuple):
    """What a function does to the world.

    Attributes:
        call: matches the source of what is called.
        words: matches a docstring that says so.
    """

    call: re.Pattern[str]
    words: re.Pattern[str]


EFFECTS: Final[Mapping[str, Effect]] = {
    "deletes": Effect(
        re.compile(r"(\.(delete|unlink|hdel|xdel|xtrim|zrem|srem|rmtree|rmdir|getdel|xgroup_destroy))$"),
        re.compile(
            r"(?i)\b(delet|remov|drop|forg[eo]t|clear|empt[iy]|releas|dispos|withdraw|take out|prun|trim)"
        ),
    ),
    "drops": Effect(
        re.compile(r"\.(abort|disconnect|leave)$"),
        re.compile(r"(?i)\b(drop|disconnect|clos|abort|cut|leav|break|reset)"),
    ),
    "grants": Effect(
        re.compile(r"^Grant$|\.acl_setuser$"), re.compile(r"(?i)\b(grant|right|allow|may\b|permi)")
    ),
    "kills": Effect(
        re.compile(r"\.(kill|killpg|terminate|_exit|send_signal|pidfd_send_signal)$"),
        re.compile(r"(?i)\b(kill|terminat|end\b|ends\b|ended|ending|exit|die|signal|stop)"),
    ),
    "spends": Effect(
        re.compile(r"(limit|budget|quota|rates|limiter)\w*\.(take|spend|consume|reserve)$"),
        re.compile(r"(?i)\b(spend|budget|count|limit|quota|use[sd]? up|tak(e|es|ing)\b)"),
    ),
}


def read_sources(root: Path, parts: Iterable[str]) -> dict[str, str]:
    """Return the text of each Python file below these folders, by its path from `root`."""
    files = (file for part in parts for file in sorted((root / part).rglob("*.py")))
    return {file.relative_to(root).as_posix(): file.read_text(encoding="utf-8") for file in files}


def read_mechanisms() -> list[dict[str, Any]]:
    with Path(__file__).with_name("mechanisms.toml").open("rb") as file:
        found: list[dict[str, Any]] = tomllib.load(file)["mechanism"]
    return found


def find_homes(mechanism: Mapping[str, Any], sources: Mapping[str, str]) -> list[str]:
    """Return the files in which the mark of a mechanism stands."""
    return [name for name, text in sources.items() if re.search(mechanism["mark"], text)]


def parse_all(sources: Mapping[str, str]) -> dict[str, ast.Module]:
    return {name: _parse(text) for name, text in sources.items()}


@cache
def _parse(text: str) -> ast.Module:
    return ast.parse(text)


def count_code(text: str) -> int:
    """Return the lines of code of a module."""
    words: set[int] = set()
    for node in ast.walk(_parse(text)):
        if (
            isinstance(node, ast.Expr)
            and isinstance(node.value, ast.Constant)
            and isinstance(node.value.value, str)
        ):
            words.update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    lines = enumerate(text.splitlines(), 1)
    return sum(at not in words and line.strip()[:1] not in ("", "#") for at, line in lines)


def name_package(path: str) -> str:
    """Return the package that has a budget for this file, such as `notifier` or `services/board`."""
    steps = path.split("/")
    return "/".join(steps[: 2 if len(steps) > 2 and steps[0] in ("marketswarm", "services") else 1])


def count_packages(sources: Mapping[str, str]) -> Counter[str]:
    """Return the lines of code of each package."""
    counted: Counter[str] = Counter()
    for path, text in sources.items():
        counted[name_package(path)] += count_code(text)
    return counted


def read_budgets() -> dict[str, int]:
    """Return the most lines of code of each package."""
    with BUDGETS.open("rb") as file:
        found: dict[str, int] = tomllib.load(file)["lines"]
    return found


def read_limits() -> dict[str, int]:
    """Return how many of each kind of finding there may be."""
    with BUDGETS.open("rb") as file:
        found: dict[str, int] = tomllib.load(file)["findings"]
    return found


def find_excesses(counted: Mapping[str, int], budgets: Mapping[str, int]) -> list[str]:
    """Return a line for each package without a budget or above it, and each budget without a package."""
    over = [
        f"{package}: {lines:,} lines of code, its budget is {budgets.get(package, 0):,}"
        for package, lines in sorted(counted.items())
        if lines > budgets.get(package, 0)
    ]
    return over + [f"{package}: a budget without code" for package in budgets if package not in counted]


def count_functions(sources: Mapping[str, str]) -> Counter[str]:
    """Return how many functions and methods have each name; those that Python calls by itself don't count."""
    nodes = (node for tree in parse_all(sources).values() for node in ast.walk(tree))
    return Counter(
        node.name for node in nodes if isinstance(node, Function) and not node.name.startswith("__")
    )


def find_folder_circles(graph: grimp.ImportGraph, package: str) -> dict[str, list[str]]:
    """Return by package, this one and those in it, the arrows without which its parts are in no circle."""
    found: dict[str, list[str]] = {}
    children = graph.find_children(package)
    if len(children) > 1 and (breakers := graph.nominate_cycle_breakers(package)):
        depth = package.count(".") + 1
        arrows = {(one.split(".")[depth], other.split(".")[depth]) for one, other in breakers}
        found[package] = [f"{one} -> {other}" for one, other in sorted(arrows)]
    for child in sorted(children):
        found |= find_folder_circles(graph, child)
    return found


def find_small_modules(graph: grimp.ImportGraph, sources: Mapping[str, str]) -> dict[str, str]:
    """Return the small modules that one module of their own folder alone imports, each with that module."""
    found: dict[str, str] = {}
    for path, text in sources.items():
        name = path.removesuffix(".py").replace("/", ".")
        if text.count("\n") >= SMALL or name not in graph.modules:
            continue
        users = graph.find_modules_that_directly_import(name)
        if len(users) == 1 and (user := users.pop()).rpartition(".")[0] == name.rpartition(".")[0]:
            found[name] = user
    return found


def find_callbacks(sources: Mapping[str, str]) -> dict[str, int]:
    """Return the classes whose constructor takes two or more functions, with how many.

    A function counts by its annotation, also by a name of the same module for such a type. The fields of a
    dataclass are the parameters of its constructor.
    """
    found: dict[str, int] = {}
    for path, tree in parse_all(sources).items():
        aliases = {
            target.id
            for node in tree.body
            if isinstance(node, ast.Assign) and CALLBACK.search(ast.unparse(node.value))
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        for node in (each for each in ast.walk(tree) if isinstance(each, ast.ClassDef)):
            types = [ast.unparse(each) for each in _list_parameter_types(node)]
            count = sum(bool(CALLBACK.search(each)) or each.split(" |")[0] in aliases for each in types)
            if count > 1:
                found[f"{path}: {node.name}"] = count
    return found


def _list_parameter_types(node: ast.ClassDef) -> Iterator[ast.expr]:
    """Yield the annotations of what the constructor of a class takes."""
    if any("dataclass" in ast.unparse(each) for each in node.decorator_list):
        yield from (each.annotation for each in node.body if isinstance(each, ast.AnnAssign))
    for each in node.body:
        if isinstance(each, Function) and each.name == "__init__":
            taken = (*each.args.posonlyargs, *each.args.args, *each.args.kwonlyargs)
            yield from (one.annotation for one in taken if one.annotation is not None)


def find_unsaid_effects(sources: Mapping[str, str]) -> dict[str, list[str]]:
    """Return the functions that do one of EFFECTS without a word of it in their docstring, each with which.

    What a function inside another one does is its own.
    """
    found: dict[str, list[str]] = {}
    for path, tree in parse_all(sources).items():
        for node in (each for each in ast.walk(tree) if isinstance(each, Function)):
            made = [each for each in _walk_own(node) if isinstance(each, ast.Call)]
            # signal 0 only asks whether a process is there
            calls = {ast.unparse(each.func) for each in made if not ast.unparse(each).endswith(", 0)")}
            said = ast.get_docstring(node) or ""
            unsaid = [
                name
                for name, effect in EFFECTS.items()
                if any(map(effect.call.search, calls)) and not effect.words.search(said)
            ]
            if unsaid:
                found[f"{path}:{node.lineno} {node.name}"] = unsaid
    return found


def _walk_own(function: Function) -> Iterator[ast.AST]:
    """Yield the nodes of a function, without those of functions in it."""
    waiting: list[ast.AST] = list(function.body)
    while waiting:
        node = waiting.pop()
        yield node
        if not isinstance(node, Function | ast.Lambda):
            waiting += ast.iter_child_nodes(node)


def read_graph() -> grimp.ImportGraph:
    """Return who imports whom in the product."""
    return grimp.build_graph(*PRODUCT, cache_dir=None)


def list_findings(sources: Mapping[str, str]) -> dict[str, list[str]]:
    """Return what `make count` finds, a line each, by the names of `[findings]` in budgets.toml."""
    graph = read_graph()
    circles = [each for package in PRODUCT for each in find_folder_circles(graph, package).items()]
    return {
        "folder_circles": [f"{package}: {arrow}" for package, arrows in circles for arrow in arrows],
        "small_modules": [f"{name}, for {user}" for name, user in find_small_modules(graph, sources).items()],
        "callbacks": [f"{name} takes {count}" for name, count in find_callbacks(sources).items()],
        "unsaid_effects": [
            f"{name} {' and '.join(what)}" for name, what in find_unsaid_effects(sources).items()
        ],
    }


HEADS: Final = {
    "folder_circles": "arrows between folders without which there is no circle",
    "small_modules": f"modules of fewer than {SMALL} lines that one neighbour alone imports",
    "callbacks": "constructors that take two or more functions",
    "unsaid_effects": "functions that delete, drop, grant, kill or spend, unsaid in their docstring",
}


def report(sources: Mapping[str, str]) -> Iterator[str]:
    counted, budgets = count_packages(sources), read_budgets()
    words = sum(text.count("\n") for text in sources.values())
    yield f"{sum(counted.values()):>8,} lines of code in {len(sources)} files, {words:,} with words"
    for package, lines in counted.most_common():
        yield f"{lines:>8,} of {budgets.get(package, 0):>6,} {package}"
    for kind, lines_of_kind in list_findings(sources).items():
        yield f"\n{len(lines_of_kind)} {HEADS[kind]}:"
        yield from (f"  {line}" for line in lines_of_kind)
    many = [(name, count) for name, count in count_functions(sources).most_common() if count >= MANY]
    yield "\nfunctions of one name: " + ", ".join(f"{name} {count}" for name, count in many)
    yield "\nplaces of each mechanism:"
    for mechanism in read_mechanisms():
        homes = find_homes(mechanism, sources)
        yield f"{len(homes):>8} {mechanism['what']}: {', '.join(homes)}"


if __name__ == "__main__":
    sys.stdout.writelines(f"{line}\n" for line in report(read_sources(ROOT, PRODUCT)))
