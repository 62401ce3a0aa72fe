"""Holds the tables of docs/contract.md to the code, in both directions: none missing, none made up."""

import importlib
import re
from dataclasses import fields
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any

import orjson
from typer.core import TyperGroup

from marketswarm import beat, event
from marketswarm.access.users import build_users
from marketswarm.cli.app import load_all_commands
from marketswarm.event import Event, Kind
from marketswarm.exit import Code
from marketswarm.settings import CommonSettings
from marketswarm.truth import parse, parse_truth
from support.pages import ROOT, blocks, section, table

PAGE = "docs/contract.md"
PRODUCT = ("marketswarm", "bootstrap", "healer", "sentinel", "notifier", "services")
BUSES = ("system-redis", "market-redis")
# of leases: their keys are lease:<name>
OTHER_NAMES = {"massive:market", "vexy_ai:digest", "sources:refresh", "bars:features"}
OTHER_NAMES |= {"bars:SPY:1m"}  # a topic of the board, in an example
WRITTEN = re.compile(r'"([a-z*{][^\s"]*:[^\s"]*)"')


def code(text: str) -> list[str]:
    """What stands between backticks."""
    return re.findall("`([^`]+)`", text)


# keys and channels


def named() -> set[str]:
    """Keys and channels of the table, `<…>` as `*`."""
    rows = table(PAGE, "3. Keys and channels")
    return {re.sub("<[^>]+>", "*", name) for row in rows for name in code(row[0])}


@cache
def written_in_the_code() -> frozenset[str]:
    """Every text of the product that has the form of a key, what is filled in as `*`.

    Its text is searched: to parse it all takes a second.
    """
    paths = [path for package in PRODUCT for path in (ROOT / package).rglob("*.py")]
    texts = (text for path in paths for text in WRITTEN.findall(path.read_text(encoding="utf-8")))
    filled = (re.sub(r"\{[^{}]*\}", "*", text) for text in texts)
    return frozenset(text for text in filled if re.fullmatch(r"[a-z*][\w*-]*(:[\w*-]*)+", text))


def test_each_key_of_the_table_is_written_somewhere_in_the_code():
    there = written_in_the_code()
    ends = {text for text in there if text.startswith("*:") and text.strip("*:")}
    for name in named() - {"*:heartbeat"}:
        assert name in there or any(fnmatchcase(name, end) for end in ends), name


def test_each_key_of_the_code_is_in_the_table():
    names = named()
    families = {name.partition(":")[0] + ":" for name in names} - {"*:"}
    for text in written_in_the_code() - OTHER_NAMES:
        if text.startswith(tuple(families)):
            is_family = text in families or any(name.startswith(text) for name in names)
            is_pattern = any(fnmatchcase(name, text) for name in names)
            assert text in names or is_family or is_pattern, f"{text} is not in the table"


def test_each_key_that_a_program_may_touch_is_in_the_table():
    names, truth = named(), parse_truth((ROOT / "truth.json").read_bytes()).truth
    for bus in BUSES:
        for user in build_users(truth, bus):
            for grant in (user.root, *user.grants):
                for key in (*grant.keys, *grant.channels):
                    found = [
                        name
                        for name in names
                        if fnmatchcase(name, key) or fnmatchcase(key, name) or name.startswith(f"{key}:")
                    ]
                    is_known = found or of_a_family(key, names)
                    assert is_known, f"{user.name} may touch {key}"


def of_a_family(pattern: str, names: set[str]) -> bool:
    """`vexy:dead:*` is what may lie beside `vexy:dead`; `mesh:topology:*` likewise."""
    return pattern.endswith(":*") and pattern.removesuffix(":*") in names


def test_the_names_of_keys_are_found_in_the_code():
    assert {"truth:doc", "health:*", "notifier:told:*"} <= written_in_the_code()


# messages


def test_the_events_that_are_shown_are_events_as_the_code_reads_and_writes_them():
    (shown,) = [block for block in blocks(ROOT / PAGE, "json") if "healer_miss" in block]
    for line in shown.splitlines():
        found = event.parse_event(line.encode())
        assert isinstance(found, Event)
        assert list(orjson.loads(event.encode_event(found)))[: len(orjson.loads(line))] == list(
            orjson.loads(line)
        )


def test_the_sizes_are_those_in_force():
    text = (ROOT / PAGE).read_text(encoding="utf-8")
    assert beat.MAX_BEAT_BYTES == 4 * 1024
    assert event.MAX_EVENT_BYTES == 16 * 1024
    assert parse.MAX_BYTES == 16 * 1024 * 1024
    assert "A beat has at most 4 KiB, an event 16 KiB, a truth 16 MiB" in text
    assert f"at most {beat.MAX_DETAIL_CHARS} characters" in text


# environment


def subclasses(kind: type) -> set[type]:
    return {kind}.union(*(subclasses(sub) for sub in kind.__subclasses__()))


def modules() -> list[str]:
    """Every module of the product that can be imported."""
    paths = [path for package in PRODUCT for path in (ROOT / package).rglob("*.py")]
    parts = [path.relative_to(ROOT).with_suffix("").parts for path in paths if path.name != "__main__.py"]
    return [".".join(part for part in each if part != "__init__") for each in parts]


def variables() -> dict[str, Any]:
    """Each variable that settings or the command line read, with its default."""
    for name in modules():
        importlib.import_module(name)
    kinds = [
        kind for kind in subclasses(CommonSettings) if not kind.__module__.startswith(("test", "tests."))
    ]
    fields = {name.upper(): field.default for kind in kinds for name, field in kind.model_fields.items()}
    return fields | {
        str(option.envvar): option.default
        for command in commands().values()
        for option in command.params
        if option.envvar
    }


def test_each_variable_that_is_read_is_in_the_table_and_each_in_the_table_is_read():
    rows = table(PAGE, "6. Environment")
    shown = {name for row in rows for name in re.findall("`([A-Z_]+)`", row[0])}
    assert shown - {"SYSTEM_REDIS_URL", "MARKET_REDIS_URL"} == set(variables())


def test_the_defaults_in_the_table_are_those_in_force():
    rows = table(PAGE, "6. Environment")
    shown = {name: row[1].strip("`") for row in rows for name in re.findall("`([A-Z_]+)`", row[0])}
    for name, default in variables().items():
        if isinstance(default, int | float | str | Path):
            said = str(default).lower() if isinstance(default, bool) else str(default)
            assert shown[name] == (f"{default:g}" if isinstance(default, float) else said), name


# programs


def commands() -> dict[str, Any]:
    """Every command of `marketswarm` that its help shows, by what is typed."""
    group = load_all_commands()
    return dict(commands_of(group))


def commands_of(group: TyperGroup, before: str = ""):
    for name, command in group.commands.items():
        if isinstance(command, TyperGroup):
            yield from commands_of(command, f"{before}{name} ")
        elif not command.hidden:
            yield f"{before}{name}", command


def test_each_table_has_what_the_code_has_and_nothing_else():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    mains = [path for package in PRODUCT for path in (ROOT / package).rglob("__main__.py")]
    alone = {"bootstrap.access", "services.sources.gate"}  # modules that are programs
    programs = {".".join(path.parent.relative_to(ROOT).parts) for path in mains} | alone
    tables: dict[tuple[str, tuple[str, ...]], set[str]] = {
        ("Alert events", ("`type`",)): set(Kind),
        ("Alert events", ("key",)): {each.name for each in fields(Event)},
        ("Beats", ()): {each.name for kind in (beat.Beat, beat.Sender) for each in fields(kind)},
        ("7. Programs", ("command", "what it is")): {f"python -m {name}" for name in programs},
        ("Commands of marketswarm", ()): set(commands()),
        ("make", ()): {f"make {name}" for name in re.findall(r"^([a-z]+):.*## ", makefile, re.MULTILINE)},
    }
    for (heading, columns), names in tables.items():
        shown = [name for row in table(PAGE, heading, columns) for name in code(row[0])]
        if heading == "make":
            shown = [" ".join(name.split()[:2]) for name in shown]
        assert sorted(shown) == sorted(names), heading
    assert [int(row[0]) for row in table(PAGE, "Exit codes")] == sorted(Code)


def test_each_command_whose_help_says_that_it_may_end_with_1_is_among_those_that_do():
    [shown] = re.findall(r"^- \*\*1, .*?(?=^- )", section(PAGE, "Exit codes"), re.MULTILINE | re.DOTALL)
    listed = {name.partition(" --")[0] for name in code(shown)}
    assert listed <= {*commands(), "add", "python -m services.sources.gate"}
    says_so = {
        name.removesuffix(" daemon").removesuffix(" job").removesuffix(" page")
        for name, command in commands().items()
        if re.search(r"\bwith (?:code )?1\b", " ".join((command.help or "").split()))
    }
    assert len(says_so) > 15
    assert says_so <= listed


# what must never change


def test_what_the_first_contract_named_is_still_there():
    assert named() >= {
        *("truth:doc", "truth:meta", "truth:history", "truth:changed", "*:heartbeat", "beat:*", "health:*"),
        *("healer:alerts", "healer:alerts:log", "healer:heartbeat", "healer:lease", "healer:roster"),
        *("mesh:topology", "mesh:events", "notifier:told:*", "notifier:dead"),
        *("rss:items", "massive:probes", "probe:*", "vexy:notes"),
    }
