"""Write the pages of docs/ that are made: every key of the truth, every command, every source of the market.

    .venv/bin/python tools/reference.py             writes the pages
    .venv/bin/python tools/reference.py --check     ends with code 1 if a page is not current

A model describes each of its keys in a docstring below it. `Default: …` in there replaces the default of the
model, `Example: `…`` is an example in JSON.
"""

import ast
import functools
import importlib
import inspect
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, is_dataclass
from enum import StrEnum
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

import orjson
import typer
from annotated_types import Ge, Gt, Le, Lt, MaxLen
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined
from typer.core import TyperCommand, TyperGroup

ROOT: Final = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from marketswarm.agent import service_config  # noqa: E402 - the product is found by the line above
from marketswarm.cli.app import load_all_commands  # noqa: E402
from marketswarm.truth import Truth  # noqa: E402
from services.market.records import TIMEFRAMES, Adjustment, AssetClass  # noqa: E402
from services.sources.catalog.files import shipped_catalog  # noqa: E402
from services.sources.catalog.source import MarketSource  # noqa: E402

HIDDEN: Final = frozenset({("Heartbeat", "said")})
"""Fields of the models that no document may set."""
UNITS: Final = {"_sec": "seconds", "_cadence": "seconds", "_bytes": "bytes", "_days": "days"}


@dataclass(frozen=True, slots=True)
class Key:
    """One key of the truth, as the page shows it. `default` and `example` are JSON or words."""

    name: str
    kind: str
    default: str
    example: str
    what: str
    inner: Any = None  # the model of what stands under this key


@dataclass(frozen=True, slots=True)
class Section:
    """A heading of the page and the keys below it."""

    path: str
    what: str
    keys: tuple[Key, ...]
    of: type


def build_truth_sections() -> list[Section]:
    """Build the sections of the document, its buses and services, then of each service that has a model."""
    found = list(_build_sections("", "The document", Truth, set()))
    for svc in _list_services():
        model = service_config.find_model(svc)
        if model is not None:
            inner = [key for key in _build_keys(model) if key.inner is not None]
            for key in inner:
                found += _build_sections(
                    f"services.{svc}.{key.name}{_format_steps(key.kind)}",
                    key.what,
                    key.inner,
                    set(),
                )
    return found


def render_truth_page() -> str:
    parts = [
        _TRUTH_HEAD,
        *(_render_section(each) for each in build_truth_sections()),
    ]
    return "\n".join(parts)


def render_commands_page() -> str:
    group = load_all_commands()
    panels: dict[str, list[tuple[str, TyperCommand]]] = {}
    for name, command in _find_commands(group):
        panels.setdefault(str(command.rich_help_panel or ""), []).append((name, command))
    lines = [_COMMANDS_HEAD]
    for panel, commands in panels.items():
        if panel:
            lines.append(f"## {panel}\n")
        lines += [_render_command(name, command, "###" if panel else "##") for name, command in commands]
    return "\n".join(lines)


def render_sources_page() -> str:
    """Return the page with a table for each asset class."""
    catalog = shipped_catalog()
    lines = [_SOURCES_HEAD.format(count=len(catalog))]
    for asset in AssetClass:
        having = [each for each in catalog.values() if _find_kinds(each, asset)]
        lines += [f"## {asset.value.capitalize()}", "", _SOURCES_COLUMNS]
        lines += [_render_source(each, asset) for each in having]
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def _find_kinds(source: MarketSource, asset: AssetClass) -> list[str]:
    found: dict[str, dict[str, None]] = {}
    for endpoint in source.serves.values():
        if asset in endpoint.assets:
            served = endpoint.timeframes.keys() - set(endpoint.without.get(asset, ()))
            is_stock = asset is AssetClass.STOCKS
            adjusted = _ADJUSTED.get(endpoint.adjustment or Adjustment.RAW, "") if is_stock else ""
            found.setdefault(endpoint.kind.value + adjusted, {}).update(dict.fromkeys(served))
    return [
        f"{kind} {' '.join(each for each in TIMEFRAMES if each in of)}".strip() for kind, of in found.items()
    ]


def _render_source(source: MarketSource, asset: AssetClass) -> str:
    key = f"`{source.auth.env}`" + (", optional" if source.auth.optional else "") if source.auth.env else ""
    pages = ", ".join(f"[{number}]({page})" for number, page in enumerate(source.docs, 1))
    cells = (
        f"`{source.name}`",
        source.title,
        "; ".join(_find_kinds(source, asset)),
        key,
        source.tried,
        pages,
    )
    return f"| {' | '.join(cells)} |"


def get_field(model: type, name: str) -> FieldInfo:
    """`name` is as the document spells it."""
    fields = getattr(model, "__pydantic_fields__", None) or {}
    found = next(field for own, field in fields.items() if name in (own, field.alias))
    assert isinstance(found, FieldInfo)
    return found


def _list_services() -> list[str]:
    """Return the names of all services: first those of the shipped truth, in its order."""
    shipped = list(orjson.loads((ROOT / "truth.json").read_bytes())["services"])
    there = sorted(path.parent.name for path in ROOT.glob("services/*/*.py"))
    return list(dict.fromkeys([*shipped, *there]))


def _build_sections(path: str, what: str, model: Any, seen: set[type]) -> Iterator[Section]:
    members = [each for each in get_args(model) if isinstance(each, type)]
    if members:
        yield from _build_kind_sections(path, members)
        return
    if model in seen:
        return
    seen.add(model)
    keys = tuple(_build_keys(model))
    yield Section(path, what, keys, model)
    for key in keys:
        if key.inner is not None:
            yield from _build_sections(
                f"{path}.{key.name}".lstrip(".") + _format_steps(key.kind), key.what, key.inner, seen
            )


def _build_kind_sections(path: str, members: list[type]) -> Iterator[Section]:
    """Yield a section of the keys that all kinds share, then one for each kind with its own keys."""
    (base,) = {member.__mro__[1] for member in members}
    common = tuple(_build_keys(base))
    yield Section(path, _get_first_line(base), common, base)
    names = {key.name for key in common}
    for member in members:
        kind = get_field(member, "kind").default
        own = tuple(key for key in _build_keys(member) if key.name not in names)
        yield Section(f"{path} of kind {kind}", _get_first_line(member), own, member)


def _format_steps(kind: str) -> str:
    if kind.startswith("list"):
        return "[]"
    return ".<name>" if kind == "objects by name" else ""


def _build_keys(model: type) -> Iterator[Key]:
    described = _read_descriptions(model)
    fields: dict[str, FieldInfo] = getattr(model, "__pydantic_fields__", None) or _build_plain_fields(model)
    for name, field in fields.items():
        if (model.__name__, name) in HIDDEN:
            continue
        text = described.get(name, "")
        what, example = _split_at(text, "Example:")
        what, default = _split_at(what, "Default:")
        annotation: Any = field.annotation
        if field.metadata:
            annotation = Annotated[annotation, *field.metadata]
        kind = _format_kind(annotation, name)
        # as the document spells it: `from` is not a name that Python allows
        yield Key(
            field.alias or name,
            kind,
            default or _format_default(field),
            example,
            what,
            _find_inner_model(annotation),
        )


def _build_plain_fields(model: type) -> dict[str, FieldInfo]:
    annotations = inspect.get_annotations(model, eval_str=True)
    return {
        name: FieldInfo.from_annotated_attribute(
            annotations[name],
            each.default_factory() if callable(each.default_factory) else each.default,
        )
        for name, each in model.__dataclass_fields__.items()  # type: ignore[attr-defined]
        if each.init
    }


def _split_at(text: str, word: str) -> tuple[str, str]:
    before, _, after = text.partition(word)
    return before.strip(), after.strip().removesuffix(".")


def _read_descriptions(model: type) -> dict[str, str]:
    """Return the docstring below each field, by name; those of a class replace those of its bases."""
    found: dict[str, str] = {}
    for each in reversed(model.__mro__):
        if each.__module__.startswith(("builtins", "pydantic", "typing")):
            continue
        tree = _parse_classes(each.__module__)[each.__name__]
        for field, below in zip(tree.body, tree.body[1:], strict=False):
            if isinstance(field, ast.AnnAssign) and isinstance(below, ast.Expr):
                text = ast.literal_eval(below.value)
                found[ast.unparse(field.target)] = " ".join(text.split())
    return found


@functools.cache  # a module has several
def _parse_classes(module: str) -> dict[str, ast.ClassDef]:
    tree = ast.parse(inspect.getsource(sys.modules[module]))
    return {each.name: each for each in tree.body if isinstance(each, ast.ClassDef)}


def _format_default(field: FieldInfo) -> str:
    if field.is_required():
        return "needed"
    value = field.get_default(call_default_factory=True, validated_data={})
    if value is None or value is PydanticUndefined or value in ((), [], {}, ""):
        return "none"
    if isinstance(value, BaseModel) or is_dataclass(value):
        return "see below"
    return f"`{_format_json(value)}`"


def _format_json(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.10g}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_format_json, value))}]"
    return orjson.dumps(value).decode()


def _unwrap_type(annotation: Any) -> tuple[Any, list[Any]]:
    """Return a type without its Annotated and its `| None`, and the metadata of its Annotated."""
    metadata: list[Any] = []
    while True:
        origin = get_origin(annotation)
        if origin is Annotated:
            annotation, *more = get_args(annotation)
            metadata += more
        elif origin in (Union, UnionType) and NoneType in get_args(annotation):
            rest = [each for each in get_args(annotation) if each is not NoneType]
            annotation = Union[tuple(rest)]  # noqa: UP007 - a union of what there is
        else:
            return annotation, metadata


def _find_inner_model(annotation: Any) -> Any:
    """Return the model, or the union of models, that a key has, also in a list or mapping; otherwise None."""
    plain, _ = _unwrap_type(annotation)
    origin, arguments = get_origin(plain), get_args(plain)
    if origin in (tuple, list, dict) or (origin is not None and "Mapping" in str(origin)):
        return _find_inner_model(arguments[1] if origin is not tuple and len(arguments) > 1 else arguments[0])
    if arguments and all(isinstance(each, type) and issubclass(each, BaseModel) for each in arguments):
        return plain
    is_model = isinstance(plain, type) and (issubclass(plain, BaseModel) or is_dataclass(plain))
    return plain if is_model else None


def _format_kind(annotation: Any, name: str) -> str:
    """Describe a value in words: its type, its unit and its bounds."""
    plain, metadata = _unwrap_type(annotation)
    for each in list(metadata):
        metadata += getattr(each, "metadata", [])
    origin, arguments = get_origin(plain), get_args(plain)
    if origin is Literal:
        return " ".join(f"`{_format_json(each)}`" for each in arguments)
    if origin in (tuple, list):
        of = (
            ""
            if arguments[0] is Any or _find_inner_model(arguments[0])
            else f" of {_format_kind(arguments[0], name)}"
        )
        most = f", at most {_find_max_length(metadata)}" if _find_max_length(metadata) else ""
        return ("list" if _find_inner_model(plain) is None else "list of objects") + of + most
    if origin is dict or "Mapping" in str(origin):
        return "objects by name" if _find_inner_model(plain) is not None else "object"
    if _find_inner_model(plain) is not None:
        return "object"
    if isinstance(plain, type) and issubclass(plain, StrEnum):
        return " ".join(f"`{_format_json(str(each))}`" for each in plain)
    if plain in (float, int):
        unit = next((unit for end, unit in UNITS.items() if name.endswith(end)), "")
        words = unit or ("whole number" if plain is int else "number")
        return words + _format_bounds(metadata, 1 if plain is int else 0)
    return {str: "text", bool: "`true` or `false`"}[plain]


def _find_max_length(metadata: list[Any]) -> int | None:
    return next((each.max_length for each in metadata if isinstance(each, MaxLen)), None)


def _format_bounds(metadata: list[Any], step: int) -> str:
    """Return the bounds in words; `step` is 1 where "more than 0" means 1 or more."""
    least = next((each for each in metadata if isinstance(each, Ge | Gt)), None)
    most = next((each for each in metadata if isinstance(each, Le | Lt)), None)
    low, strictly = _format_bound(least, "ge", "gt", step)
    high, below = _format_bound(most, "le", "lt", -step)
    if low and high and not strictly and not below:
        return f", {low} to {high}"
    words = []
    if low:
        words.append(f"more than {low}" if strictly else f"{low} or more")
    if high:
        words.append(f"less than {high}" if below else f"at most {high}")
    return "".join(f", {each}" for each in words)


def _format_bound(found: Any, inclusive: str, exclusive: str, step: int) -> tuple[str, bool]:
    if found is None:
        return "", False
    if hasattr(found, inclusive):
        return f"{getattr(found, inclusive):.10g}", False
    return f"{getattr(found, exclusive) + step:.10g}", step == 0


def _get_first_line(model: type) -> str:
    return (inspect.getdoc(model) or "").partition("\n")[0]


def _render_section(section: Section) -> str:
    level, title = ("##", f"`{section.path}`") if section.path else ("##", section.what)
    kind = re.fullmatch(r"(.+) of kind (\w+)", section.path)
    if kind:
        level, title = "###", f"`{kind[1]}` of kind `{kind[2]}`"
    lines = [f"{level} {title}\n"]
    if section.path:
        lines.append(f"{section.what}\n")
    if section.keys:
        lines += ["| key | value | default | example | what |", "| --- | --- | --- | --- | --- |"]
        lines += [_render_row(key) for key in section.keys]
    return "\n".join(lines) + "\n"


def _render_row(key: Key) -> str:
    cells = (f"`{key.name}`", key.kind, key.default, key.example, key.what)
    return "| " + " | ".join(cell.replace("|", "\\|") or "-" for cell in cells) + " |"


def _find_commands(group: TyperGroup, before: str = "") -> Iterator[tuple[str, TyperCommand]]:
    for name, command in group.commands.items():
        if isinstance(command, TyperGroup):
            yield from _find_commands(command, f"{before}{name} ")
        elif isinstance(command, TyperCommand) and not command.hidden:
            yield f"{before}{name}", command


def _render_command(name: str, command: TyperCommand, level: str) -> str:
    context = typer.Context(command, info_name=f"marketswarm {name}")
    usage = " ".join(
        [f"marketswarm {name} [OPTIONS]", *map(_format_argument, command.get_params(context))]
    ).strip()
    lines = [f"{level} {name}\n", f"{_clean_text(command.help or '')}\n", f"```text\n{usage}\n```\n"]
    if command.epilog:
        lines.append(f"{_clean_text(command.epilog)}\n")
    rows = [row for each in command.get_params(context) if (row := _render_parameter(each, context))]
    if rows:
        lines += ["| argument, option | default | what |", "| --- | --- | --- |", *rows, ""]
    return "\n".join(lines)


def _format_argument(parameter: Any) -> str:
    """Return an empty text for an option."""
    if parameter.param_type_name == "option":
        return ""
    name = str(parameter.metavar or parameter.name).upper().strip("[]") + (
        "..." if parameter.nargs == -1 else ""
    )
    return name if parameter.required else f"[{name}]"


def _clean_text(text: str) -> str:
    return inspect.cleandoc(text).replace("\f", "").strip()


def _render_parameter(parameter: Any, context: typer.Context) -> str | None:
    if parameter.name == "help" or getattr(parameter, "hidden", False):
        return None
    is_option = parameter.param_type_name == "option"
    names = ", ".join([*parameter.opts, *parameter.secondary_opts]) if is_option else ""
    value_text = str(parameter.metavar or "") if is_option else _format_argument(parameter)
    if is_option and not value_text and not parameter.is_flag:
        value_text = parameter.display_type(context)
    default = parameter.get_default(context, call=False)
    has_default = default not in (None, False, (), []) and getattr(parameter, "show_default", True)
    default_text = "needed" if parameter.required else (f"`{default}`" if has_default else "-")
    what = " ".join((parameter.help or "").split())
    if parameter.envvar:
        what += f" Environment: `{parameter.envvar}`."
    cells = (f"`{f'{names} {value_text}'.strip()}`", default_text, what)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


_MADE_BY: Final = (
    "<!-- made by tools/reference.py: change {what}, then run .venv/bin/python tools/reference.py -->"
)

_TRUTH_HEAD: Final = f"""\
# truth.json: every key

{_MADE_BY.format(what="the models")}

`truth.json` describes the fleet: which buses there are, who beats where and how often, and what each
service needs to know. This page has every key. The smallest useful document is:

```json
{{"services": {{"my_svc": {{"heartbeat": {{"interval_sec": 10}}}}, "healer": {{}}}}}}
```

Check a document with `make validate`, put it in force with `make seed`. How to change one while the fleet
runs: [operating](operating.md#change-the-truth).

- **default** is what holds when the key is not there; *needed* means that it must be there.
- Times are seconds; fractions are allowed.
- An unknown key is an error under `buses`, `heartbeat`, `access_points` and `threshold`, and in
  the `routes`, `maintenance` and `escalate` of the notifier. Elsewhere it is a warning. Both name the
  nearest key that is known.
- What each kind of channel needs is a table of its own: [channels](notifications.md#channels).
- A secret never stands in the document. Write `"env:NAME"`, and the program takes the variable NAME of its
  environment: [secrets](notifications.md#secrets-of-channels).
"""

_COMMANDS_HEAD: Final = f"""\
# Commands

{_MADE_BY.format(what="the help of the command")}

Every command of `marketswarm`, with every option. In the folder of this project run `. .venv/bin/activate`
first; `make` makes that environment. `marketswarm status --help` shows the same of one command on your
terminal. `marketswarm --install-completion` has your shell complete commands and options.

In the folder where a fleet runs, commands find its buses by themselves. Elsewhere they look where
[every program looks](contract.md#6-environment). [Exit codes](contract.md#7-programs) are the same for all;
where a command has codes of its own, it says so.
"""

_SOURCES_HEAD: Final = f"""\
# The catalogue of sources

{_MADE_BY.format(what="the files in services/sources/catalog")}

The {{count}} sources that have a file, by what they have: [sources of the market](sources.md) tells how to
try one and how to add one. Bars of stocks are raw where nothing else is said. `tried` is when the real
source was asked last by somebody with this file; the last column has the pages by which it was mapped.
"""
_ADJUSTED: Final = {
    Adjustment.SPLITS: " adjusted for splits",
    Adjustment.ALL: " adjusted for splits and dividends",
}
_SOURCES_COLUMNS: Final = """\
| source | what it is | serves | key | tried | mapped by |
| --- | --- | --- | --- | --- | --- |"""

PAGES: Final = {
    ROOT / "docs" / "truth-reference.md": render_truth_page,
    ROOT / "docs" / "commands.md": render_commands_page,
    ROOT / "docs" / "services" / "sources-catalog.md": render_sources_page,
}


def main() -> int:
    """With `--check` compare the pages instead of writing them."""
    importlib.invalidate_caches()
    stale = [path for path, made in PAGES.items() if not path.exists() or path.read_text("utf-8") != made()]
    if "--check" in sys.argv[1:]:
        for path in stale:
            print(f"{path.relative_to(ROOT)} is not current: run .venv/bin/python tools/reference.py")
        return bool(stale)
    for path in stale:
        path.write_text(PAGES[path](), "utf-8")
        print(f"wrote {path.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
