"""Write docs/log-events.md, the table of all log events, from the code.

    .venv/bin/python tools/log_events.py             writes the page
    .venv/bin/python tools/log_events.py --check     ends with code 1 if the page is not current

It finds each call that logs an event, and resolves the event's name and level where they are chosen between
constants. A call that it can't resolve is an error: give it an entry in `DYNAMIC`. What an event means is in
`log_events.toml`; for an event that is not there, it is the first sentence of the function that logs it.
"""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]
PAGE: Final = ROOT / "docs" / "log-events.md"
PACKAGES: Final = ("marketswarm", "bootstrap", "healer", "sentinel", "notifier", "services")
LEVELS: Final = ("debug", "info", "warning", "error", "critical", "exception")
EVENT: Final = re.compile(r"[a-z_]+\.[a-z_]+")
LOGGER: Final = re.compile(r"(^|\.|_)log(ger)?(\.get\(.*\))?$")
FLEET_LOGGERS: Final = {"log_event": 0, "_log_event": 0, "_make_record": 1}
"""Functions of `marketswarm/fleet` that log: at which place they are given the event; its level follows."""
DYNAMIC: Final = {
    'f"{self.program}.not_audited"': ("board.not_audited",),
    'f"{self.program}.token_refused"': ("board.token_refused",),
    'f"{self._verifier.program}.read"': ("board.read",),
    'f"{self.verifier.program}.session_ended"': ("board.session_ended",),
    'f"{self.verifier.program}.signed_in"': ("board.signed_in",),
    'f"{verdict.subject}.gap"': ("service.gap",),
    'event.type.replace("_", ".")': (
        *("probe.miss", "probe.ok", "probe.unwatched"),
        *("source.miss", "source.ok", "source.unwatched"),
        *("signals.miss", "signals.ok", "signals.unwatched"),
    ),
}
"""Names of events that no constant holds: by the expression."""
SOME_LEVELS: Final = {"record.levelno": "warning error", "level": "info error"}
"""Levels that are chosen while the program runs: by the expression."""
FORWARDS: Final = frozenset(
    {
        ("marketswarm/fleet/output.py", "log_event"),
        ("marketswarm/bus/outage.py", "record"),
        ("marketswarm/bus/outage.py", "end"),
    }
)
"""Functions that only hand on an event that they are given."""
OUTAGE: Final = "Outage"
OUTAGE_EVENTS: Final = (("warning", ("bus", "reason", "detail")), ("info", ("bus", "after", "away_sec")))
"""The levels and fields of the two events that an `Outage` is given after its logger."""

MEANINGS: Final[dict[str, str]] = tomllib.loads(
    Path(__file__).with_suffix(".toml").read_text(encoding="utf-8")
)
"""What each event says, by its name."""

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True, slots=True)
class LogCall:
    """A call that logs one event. `doc` is the first sentence of the function around it."""

    event: str
    levels: tuple[str, ...]
    fields: tuple[str, ...]
    module: str
    doc: str


@dataclass(frozen=True, slots=True)
class LogEvent:
    """A row of the page: an event with all that its calls say about it."""

    name: str
    levels: tuple[str, ...]
    fields: tuple[str, ...]
    modules: tuple[str, ...]
    meaning: str


@cache
def find_events() -> tuple[LogEvent, ...]:
    """Sort the events of all packages by name."""
    calls: dict[str, list[LogCall]] = {}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            module = path.relative_to(ROOT).as_posix()
            for call in find_calls(module, path.read_text("utf-8")):
                calls.setdefault(call.event, []).append(call)
    return tuple(_merge_calls(name, found) for name, found in sorted(calls.items()))


def find_calls(module: str, source: str) -> Iterator[LogCall]:
    """Yield the calls of a module that log. Raise LookupError for one that can't be resolved."""
    if not any(name in source for name in ("log", *FLEET_LOGGERS)):  # to parse it is the slow part
        return
    tree = ast.parse(source)
    for function, call in _find_calls_by_function(tree, None):
        if isinstance(call.func, ast.Name) and call.func.id == OUTAGE:
            yield from _list_outage_events(module, function, call)
            continue
        found = _parse_log_call(tree, function, call)
        if found is None or (module, function.name if function else "") in FORWARDS:
            continue
        name, levels = found
        events = _resolve_names(tree, function, name)
        if not events:
            raise LookupError(f"{module}:{call.lineno}: which event is {ast.unparse(name)}?")
        is_paired = isinstance(name, ast.IfExp) and len(events) == len(levels) > 1
        for index, event in enumerate(events):
            its_levels = levels[index : index + 1] if is_paired else levels
            yield LogCall(event, its_levels, tuple(_list_fields(function, call)), module, _get_doc(function))


def _list_outage_events(module: str, function: Function | None, call: ast.Call) -> Iterator[LogCall]:
    """Yield the two events of an `Outage`, as if each were a call."""
    more = [each.arg for each in call.keywords if each.arg not in (None, "degrade")]
    for name, (level, fields) in zip(call.args[1:], OUTAGE_EVENTS, strict=True):
        yield LogCall(ast.literal_eval(name), (level,), (*fields, *more), module, _get_doc(function))


def render_page() -> str:
    rows = [
        f"| `{event.name}` | {', '.join(event.levels)} | {' '.join(f'`{each}`' for each in event.fields)} "
        f"| {event.meaning} | {', '.join(f'`{each}`' for each in event.modules)} |"
        for event in find_events()
    ]
    return "\n".join([_HEAD, *rows, ""])


def _merge_calls(name: str, calls: list[LogCall]) -> LogEvent:
    levels = {level for call in calls for level in call.levels}
    fields = dict.fromkeys(field for call in calls for field in call.fields)
    return LogEvent(
        name,
        tuple(level for level in LEVELS if level in levels),
        tuple(sorted(fields, key=lambda field: field == "…")),
        tuple(dict.fromkeys(call.module for call in calls)),
        MEANINGS.get(name) or calls[0].doc,
    )


def _find_calls_by_function(
    node: ast.AST, function: Function | None
) -> Iterator[tuple[Function | None, ast.Call]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Call):
            yield function, child
        inner = child if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef) else function
        yield from _find_calls_by_function(child, inner)


def _parse_log_call(
    tree: ast.Module, function: Function | None, call: ast.Call
) -> tuple[ast.expr, tuple[str, ...]] | None:
    """Return the expression of the event and its levels, or None if the call does not log."""
    target = call.func
    name = target.attr if isinstance(target, ast.Attribute) else getattr(target, "id", "")
    if name in FLEET_LOGGERS and len(call.args) > FLEET_LOGGERS[name]:
        place = FLEET_LOGGERS[name]
        level = call.args[place + 1] if len(call.args) > place + 1 else ast.Constant("info")
        return call.args[place], tuple(_resolve_names(tree, function, level)) or ("info",)
    if not call.args:
        return None
    if isinstance(target, ast.Name) and function is not None:  # write = log.error if … else log.warning
        values = _find_values(function, target.id)
        methods = [each for one in values for each in ast.walk(one) if isinstance(each, ast.Attribute)]
        levels = [found for each in methods if (found := _parse_level(each)) is not None]
        return (call.args[0], tuple(levels)) if levels else None
    if isinstance(target, ast.Call) and ast.unparse(target).startswith("getattr(log."):
        return call.args[0], tuple(SOME_LEVELS[ast.unparse(target.args[1])].split())
    if not isinstance(target, ast.Attribute):
        return None
    if target.attr == "log" and LOGGER.search(ast.unparse(target.value)):
        return call.args[1], tuple(SOME_LEVELS[ast.unparse(call.args[0])].split())
    level_name = _parse_level(target)
    return (call.args[0], (level_name,)) if level_name else None


def _parse_level(method: ast.Attribute) -> str | None:
    if method.attr not in LEVELS or not LOGGER.search(ast.unparse(method.value)):
        return None
    return "error" if method.attr == "exception" else method.attr


def _resolve_names(tree: ast.Module, function: Function | None, value: ast.expr) -> list[str]:
    """Return all texts that an expression may be, as far as constants say."""
    text = ast.unparse(value).replace("'", '"')
    if text in DYNAMIC:
        return list(DYNAMIC[text])
    if isinstance(value, ast.Constant):
        return [value.value] if isinstance(value.value, str) else []
    if isinstance(value, ast.IfExp):
        return [
            *_resolve_names(tree, function, value.body),
            *_resolve_names(tree, function, value.orelse),
        ]
    if isinstance(value, ast.Name):
        found = _find_values(function, value.id) if function is not None else []
        return [
            each
            for one in found or _find_values(tree, value.id)
            for each in _resolve_names(tree, function, one)
        ]
    if isinstance(value, ast.Subscript):
        return _resolve_names(tree, function, value.value)
    if isinstance(value, ast.Call) and isinstance(value.func, ast.Attribute) and value.func.attr == "get":
        return _resolve_names(tree, function, value.func.value)
    if isinstance(value, ast.Dict):
        return [each for one in value.values for each in _resolve_names(tree, function, one)]
    return []


def _find_values(scope: ast.Module | Function, name: str) -> list[ast.expr]:
    """Return what is assigned to a name; in a module, only by its own body."""
    return _index_values(scope).get(name, [])


@cache  # a tree is asked for each of its calls
def _index_values(scope: ast.Module | Function) -> dict[str, list[ast.expr]]:
    nodes = ast.iter_child_nodes(scope) if isinstance(scope, ast.Module) else ast.walk(scope)
    values: dict[str, list[ast.expr]] = {}
    for node in nodes:
        if not isinstance(node, ast.Assign | ast.AnnAssign) or node.value is None:
            continue
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        for name in {target.id for target in targets if isinstance(target, ast.Name)}:
            values.setdefault(name, []).append(node.value)
    return values


def _list_fields(function: Function | None, call: ast.Call) -> Iterator[str]:
    """Yield the names of an event's fields; … for those that are known only while the program runs."""
    yield from _list_keys(call.args)
    for keyword in call.keywords:
        if keyword.arg is not None:
            yield "exception" if keyword.arg == "exc_info" else keyword.arg
            continue
        values = [keyword.value]
        if isinstance(keyword.value, ast.Name) and function is not None:
            values = _find_values(function, keyword.value.id)
        yield from _list_keys(values) or ["…"]
    if isinstance(call.func, ast.Attribute) and call.func.attr == "exception":
        yield "exception"


def _list_keys(values: list[ast.expr]) -> list[str]:
    keys = [key for value in values if isinstance(value, ast.Dict) for key in value.keys]
    return [key.value for key in keys if isinstance(key, ast.Constant) and isinstance(key.value, str)]


def _get_doc(function: Function | None) -> str:
    text = (ast.get_docstring(function) if function is not None else None) or ""
    return " ".join(re.split(r"(?<=\.)\s", text, maxsplit=1)[0].split()).replace("|", "\\|")


_HEAD: Final = """\
# Log events

<!-- made by tools/log_events.py: change the code or tools/log_events.toml, then run .venv/bin/python tools/log_events.py -->

Every event that a program of MarketSwarm may log. `marketswarm logs` shows them; where logs are kept:
[operating](operating.md).

```text
{"ts":"2026-01-05T09:12:44.031Z","level":"warning","event":"beat.failed","agent":"mesh","bus":"system-redis","reason":"refused","i":31}
```

- Each line has `ts` (UTC), `level`, `event` and `agent`; `part` names the part of the agent, where it is not the agent
  itself. Then come the fields of the event.
- A field is there in each line of its event unless it has nothing to say; … stands for fields that depend on what
  happened. `exception` is a traceback.
- `LOG_LEVEL` is the least level that is logged: `DEBUG`, `INFO` (the default), `WARNING`, `ERROR` or `CRITICAL`.
- `reason` is one of the [reasons](detection.md#reasons) where it is about a bus.
- Most events about something that lasts are logged once when it begins, and once when it ends.
- What is published as an alert is another thing: [alerts](operating.md#read-alerts).

| event | level | fields | what it says | logged in |
| --- | --- | --- | --- | --- |"""


def main() -> int:
    """With `--check` compare the page instead of writing it."""
    made = render_page()
    is_current = PAGE.exists() and PAGE.read_text("utf-8") == made
    if "--check" in sys.argv[1:]:
        if not is_current:
            print(f"{PAGE.relative_to(ROOT)} is not current: run .venv/bin/python tools/log_events.py")
        return not is_current
    if not is_current:
        PAGE.write_text(made, "utf-8")
        print(f"wrote {PAGE.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
