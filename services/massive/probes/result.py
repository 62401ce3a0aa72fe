"""The result of a probe: how far it got, one word for what went wrong, how long each step took. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import orjson

CONFIG: Final = "config"
DONE: Final = "done"
TEXT_AT_MOST: Final = 200

Fact = str | int | float


@dataclass(frozen=True, slots=True)
class Result:
    """The result of one probe.

    Args:
        kind: the kind of probe. where: what was probed, fit to be shown: without credentials and query.
        stage: how far it got: `config`, `dns`, `tcp`, `tls`, `http` or `done`; a kind may have others. error:
        one word; None if the target is as it should be. warning: one word for what will not stay well. ms:
        milliseconds by step. facts: what was seen: `address`, `status`, `days_left` …; texts come from
        strangers, and are cut when shown.
    """

    kind: str
    where: str
    stage: str = DONE
    error: str | None = None
    warning: str | None = None
    ms: Mapping[str, float] = field(default_factory=dict)
    facts: Mapping[str, Fact] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Return True if the target is as it should be, be it with a warning."""
        return self.error is None


@dataclass(frozen=True, slots=True)
class Finding:
    """A result with its target, and when the probe began, in epoch seconds."""

    target: str
    ts: float
    result: Result

    def fields(self) -> dict[str, str]:
        """Return the fields of the stream's entry; unknown values are left out."""
        return {name: _plain(value) for name, value in self._known().items()}

    def encoded(self) -> bytes:
        """Return the same as a JSON object, for `probe:<target>`."""
        return orjson.dumps(self._known() | {"ok": self.result.ok})

    def _known(self) -> dict[str, Fact]:
        result = self.result
        found: dict[str, Fact | None] = {
            "target": self.target,
            "ok": int(result.ok),
            "where": _cut(result.where),
            "ts": round(self.ts, 3),
            "stage": result.stage,
            "error": result.error,
            "kind": result.kind,
            "warning": result.warning,
            **{f"{step}_ms": round(value, 3) for step, value in result.ms.items()},
        }
        found |= {name: _cut(value) for name, value in result.facts.items() if name not in found}
        return {name: value for name, value in found.items() if value is not None}


def _cut(value: Fact) -> Fact:
    if not isinstance(value, str):
        return value
    text = value.encode("utf-8", "replace").decode()  # what is no Unicode would be no JSON
    return "".join(each if each.isprintable() else "?" for each in text[:TEXT_AT_MOST])


def _plain(value: Fact) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)
