"""Describe the differences between two truths, for people.

Two documents with the same content but different bytes have no changes here.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

from marketswarm.truth.errors import format_value
from marketswarm.truth.model import Truth


@dataclass(frozen=True, slots=True)
class Changes:
    """The differences between two truths.

    `added` and `dropped` are services; `changed` has a service and a text such as `interval_sec 10 → 5`.
    """

    added: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    changed: tuple[tuple[str, str], ...] = ()
    buses: tuple[tuple[str, str], ...] = ()  # a bus and `added`, `dropped`, or its changes
    fleet: str = ""  # the fleet's old and new name, if it is another one

    def __bool__(self) -> bool:
        return bool(self.added or self.dropped or self.changed or self.buses or self.fleet)


def diff_truths(old: Truth | None, new: Truth) -> Changes:
    """Return the differences in the documents' order. With None for `old`, everything in `new` is added."""
    if old is None:
        return Changes(added=tuple(new.services), buses=tuple((name, "added") for name in new.buses))
    return Changes(
        added=tuple(svc for svc in new.services if svc not in old.services),
        dropped=tuple(svc for svc in old.services if svc not in new.services),
        changed=tuple(_describe_changed_entries(old.services, new.services)),
        buses=(
            *((name, "added") for name in new.buses if name not in old.buses),
            *((name, "dropped") for name in old.buses if name not in new.buses),
            *_describe_changed_entries(old.buses, new.buses),
        ),
        fleet="" if old.fleet == new.fleet else f"{format_value(old.fleet)} → {format_value(new.fleet)}",
    )


def format_changes(changes: Changes) -> Iterator[str]:
    """Yield a line for each change: `+ mesh`, `- mesh`, `~ mesh: replicas 2 → 3`."""
    yield from (f"+ {svc}" for svc in changes.added)
    yield from (f"- {svc}" for svc in changes.dropped)
    yield from (f"~ {name}: {what}" for name, what in (*changes.changed, *changes.buses))
    if changes.fleet:
        yield f"~ fleet: {changes.fleet}"


def _describe_changed_entries(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield name and changes (`interval_sec 10 → 5, tags`) of each entry that is in both and not the same."""
    for name, entry in new.items():
        if name in old and old[name] != entry:
            yield name, ", ".join(_describe_changed_fields(old[name], entry))


def _describe_changed_fields(old: Any, new: Any, prefix: str = "") -> Iterator[str]:
    """Yield each field of a dataclass that differs: with old and new value if short, otherwise only the name.

    `prefix` stands before each name, such as `heartbeat.`.
    """
    for each in fields(new):
        before, after = getattr(old, each.name), getattr(new, each.name)
        if before == after or not each.compare:
            continue
        if is_dataclass(before) and is_dataclass(after):
            yield from _describe_changed_fields(before, after, f"{prefix}{each.name}.")
        elif _is_short(before) and _is_short(after):
            yield f"{prefix}{each.name} {_format_short(before)} → {_format_short(after)}"
        else:
            yield f"{prefix}{each.name}"


def _is_short(value: Any) -> bool:
    return value is None or isinstance(value, (int, float)) or (isinstance(value, str) and len(value) <= 60)


def _format_short(value: Any) -> str:
    """Format a plain value: `default` for None, otherwise without credentials."""
    return "default" if value is None else f"{value:g}" if isinstance(value, float) else format_value(value)
