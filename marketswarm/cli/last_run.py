"""How a command's last run ended: what stands in `run:<svc>`, and its words. Pure.

    {"svc":"backup","ok":false,"code":3,"took_sec":12.4,"ts":1762433458.125,"said":"exit 3 after 12.4 s"}

`ts` is when it ended, in epoch seconds; `signal` is there if one ended it, `limit_sec` if its time was up.
The command itself is not: its arguments may hold a secret.
"""

import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson

from marketswarm.text import format_duration

KEPT_SEC: Final = 35 * 86_400.0
"""How long the key lives, or twice the timeout if that is more: a monthly job's last run can be seen."""

LIMIT_CODE: Final = 124
"""The exit code for a time limit that was over, whatever the command made of it; as `timeout` has it."""


@dataclass(frozen=True, slots=True)
class Run:
    """A run that is over. `code` as a shell has it: 128 and its number for a signal, 124 for a time limit.

    `limit_sec` is its time limit, if that is what ended it; `why` says why it could not be started at all.
    """

    code: int
    took_sec: float
    ended_at: float
    signal: str | None = None
    limit_sec: float | None = None
    why: str | None = None

    @property
    def ok(self) -> bool:
        """Whether it did what it was to do."""
        return self.code == 0

    @property
    def said(self) -> str:
        """`exit 3 after 12.4 s`."""
        if self.why is not None:
            return f"not started: {self.why}"
        end = f"ended by {self.signal}" if self.signal else f"exit {self.code}"
        limit = f", its limit of {format_duration(self.limit_sec)} over" if self.limit_sec else ""
        return f"{end} after {format_duration(self.took_sec)}{limit}"

    def encode(self, svc: str) -> bytes:
        """The JSON for `run:<svc>`."""
        found: dict[str, Any] = {"svc": svc, "ok": self.ok, "code": self.code}
        found |= {"took_sec": round(self.took_sec, 3), "ts": round(self.ended_at, 3)}
        found |= {"signal": self.signal} if self.signal else {}
        found |= {"limit_sec": self.limit_sec} if self.limit_sec else {}
        return orjson.dumps(found | {"said": self.said})


def ended(status: int, took_sec: float, ended_at: float, limit_sec: float | None = None) -> Run:
    """The run of a process that ended with `status`, which is minus the number of a signal that ended it."""
    name = _name(-status) if status < 0 else None
    code = 128 - status if status < 0 else status
    return Run(code if limit_sec is None else LIMIT_CODE, took_sec, ended_at, name, limit_sec)


def in_short(run: Mapping[str, Any], clock: Callable[[Any], str]) -> str | None:
    """What to show of the object in `run:<svc>`; None where it is not such a one.

    `last run exit 3 after 12.4 s at 14:02:11`
    """
    said = run.get("said")
    return f"last run {said[:100]} at {clock(run.get('ts'))}" if isinstance(said, str) and said else None


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time one
        return f"signal {number}"
