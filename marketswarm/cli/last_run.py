"""The outcome of a command under `marketswarm exec`: the value of `run:<svc>`, and its text. Pure.

    {"svc":"backup","ok":false,"code":3,"took_sec":12.4,"ts":1762433458.125,"said":"exit 3 after 12.4 s"}

`ts` is when it ended, in epoch seconds; `signal` is there if a signal ended it, `limit_sec` if its time limit
did. The command line is left out: its arguments may hold a secret.
"""

import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson

from marketswarm.text import format_duration

KEPT_SEC: Final = 35 * 86_400.0
"""How long the key lives, or twice the timeout if that is more: the last run of a monthly job can be seen."""

LIMIT_CODE: Final = 124
"""The exit code for a time limit that was over, whatever the command's own code was; as `timeout` has it."""


@dataclass(frozen=True, slots=True)
class CommandRun:
    """A run that has ended.

    `code` is what a shell would give: 128 plus its number for a signal, 124 for a time limit. `limit_sec` is
    the time limit if that ended the run, `why` the reason if it could not be started at all.
    """

    code: int
    took_sec: float
    ended_at: float
    signal: str | None = None
    limit_sec: float | None = None
    why: str | None = None

    @property
    def ok(self) -> bool:
        """Whether the command did what it was to do: its exit code is 0."""
        return self.code == 0

    @property
    def said(self) -> str:
        """The outcome as text: `exit 3 after 12.4 s`."""
        if self.why is not None:
            return f"not started: {self.why}"
        end = f"ended by {self.signal}" if self.signal else f"exit {self.code}"
        limit = f", its limit of {format_duration(self.limit_sec)} over" if self.limit_sec else ""
        return f"{end} after {format_duration(self.took_sec)}{limit}"

    def encode(self, svc: str) -> bytes:
        """Return the JSON for `run:<svc>`."""
        found: dict[str, Any] = {"svc": svc, "ok": self.ok, "code": self.code}
        found |= {"took_sec": round(self.took_sec, 3), "ts": round(self.ended_at, 3)}
        found |= {"signal": self.signal} if self.signal else {}
        found |= {"limit_sec": self.limit_sec} if self.limit_sec else {}
        return orjson.dumps(found | {"said": self.said})


def make_run(status: int, took_sec: float, ended_at: float, limit_sec: float | None = None) -> CommandRun:
    """Return the run of a process that ended.

    Args:
        status: its exit status, or minus the number of the signal that ended it.
        took_sec: how long it ran.
        ended_at: when it ended, in epoch seconds.
        limit_sec: its time limit, if that is what ended it.
    """
    name = _signal_name(-status) if status < 0 else None
    code = 128 - status if status < 0 else status
    return CommandRun(code if limit_sec is None else LIMIT_CODE, took_sec, ended_at, name, limit_sec)


def describe_last_run(run: Mapping[str, Any], format_ts: Callable[[Any], str]) -> str | None:
    """Return `last run exit 3 after 12.4 s at 14:02` for the object in `run:<svc>`; None if it is no run."""
    said = run.get("said")
    return f"last run {said[:100]} at {format_ts(run.get('ts'))}" if isinstance(said, str) and said else None


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return f"signal {number}"
