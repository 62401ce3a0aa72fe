"""Hold the result of a probe: the stage it reached, one word for its error, the time of each step. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import orjson

CONFIG: Final = "config"
DONE: Final = "done"
NOT_MADE: Final = "not_made"
"""The error of a probe for which this process lacked a file descriptor or memory.

Such a probe says nothing of its target."""
MAX_TEXT_LENGTH: Final = 200

Fact = str | int | float


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """Hold the result of one probe.

    Args:
        where: what was probed, without credentials and query, so that it can be shown.
        stage: how far the probe got: `config`, `dns`, `tcp`, `tls`, `http` or `done`; a kind may have others.
        error: the error of the target, as one word; None if the probe succeeded.
        warning: a problem that is expected soon, as one word, such as `ends_soon`; or None.
        ms: milliseconds by step.
        facts: what the probe saw: `address`, `status`, `days_left` …; texts are cut when they are shown.
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
        """True if nothing is wrong with the target; it may have a warning."""
        return self.error is None


@dataclass(frozen=True, slots=True)
class ProbeFinding:
    """Hold a result with its target, and when the probe began, in epoch seconds."""

    target: str
    ts: float
    result: ProbeResult

    def fields(self) -> dict[str, str]:
        return {
            name: f"{value:.3f}" if isinstance(value, float) else str(value)
            for name, value in self._values().items()
        }

    def encode(self) -> bytes:
        """Return JSON for `probe:<target>`."""
        return orjson.dumps(self._values() | {"ok": self.result.ok})

    def _values(self) -> dict[str, Fact]:
        """Return all known values by name; a fact never replaces a value of the result itself."""
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
    """Return a text as valid, printable Unicode of at most MAX_TEXT_LENGTH characters; a number unchanged."""
    if not isinstance(value, str):
        return value
    text = value.encode("utf-8", "replace").decode()  # lone surrogates could not be written as JSON
    return "".join(each if each.isprintable() else "?" for each in text[:MAX_TEXT_LENGTH])
