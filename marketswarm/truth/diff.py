"""Describe the differences between two truths, for people.

Two documents with the same content but different bytes have no changes here.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

from marketswarm.truth.errors import show
from marketswarm.truth.model import Truth


@dataclass(frozen=True, slots=True)
class Changes:
    """The differences between two truths.

    `added` and `dropped` are services; `changed` has pairs of a service and a text such as `interval_sec 10 →
    5`.
    """

    added: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    changed: tuple[tuple[str, str], ...] = ()
    buses: tuple[tuple[str, str], ...] = ()  # a bus and `added`, `dropped`, or its changes

    def __bool__(self) -> bool:
        return bool(self.added or self.dropped or self.changed or self.buses)


def diff(old: Truth | None, new: Truth) -> Changes:
    """Return the differences between two truths, in the documents' order.

    With None for `old`, everything in `new` is added.
    """
    if old is None:
        return Changes(added=tuple(new.services), buses=tuple((name, "added") for name in new.buses))
    return Changes(
        added=tuple(svc for svc in new.services if svc not in old.services),
        dropped=tuple(svc for svc in old.services if svc not in new.services),
        changed=tuple(_differing(old.services, new.services)),
        buses=(
            *((name, "added") for name in new.buses if name not in old.buses),
            *((name, "dropped") for name in old.buses if name not in new.buses),
            *_differing(old.buses, new.buses),
        ),
    )


def _differing(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield name and changes (`interval_sec 10 → 5, tags`) of each entry that is in both and not the same."""
    for name, entry in new.items():
        if name in old and old[name] != entry:
            yield name, ", ".join(_words(old[name], entry))


def _words(old: Any, new: Any, prefix: str = "") -> Iterator[str]:
    """Yield each field that differs: with old and new value if these are short, else only the name.

    Args:
        old: a dataclass.
        new: another one of the same type.
        prefix: the text before each name, such as `heartbeat.`.
    """
    for each in fields(new):
        before, after = getattr(old, each.name), getattr(new, each.name)
        if before == after or not each.compare:
            continue
        if is_dataclass(before) and is_dataclass(after):
            yield from _words(before, after, f"{prefix}{each.name}.")
        elif _plain(before) and _plain(after):
            yield f"{prefix}{each.name} {_shown(before)} → {_shown(after)}"
        else:
            yield f"{prefix}{each.name}"


def _plain(value: Any) -> bool:
    """Return True if a value can be shown: None, a boolean, a number, a text of up to 60 characters."""
    return (
        value is None
        or isinstance(value, (bool, int, float))
        or (isinstance(value, str) and len(value) <= 60)
    )


def _shown(value: Any) -> str:
    """Format a plain value: `default` for None, else without credentials."""
    return "default" if value is None else f"{value:g}" if isinstance(value, float) else show(value)
