"""The last run of a command, as its sender stores it under `run:<svc>`. Anyone may have written it."""

from dataclasses import dataclass

from marketswarm.beat import MAX_VIA_CHARS
from marketswarm.bus.stored_values import (
    MAX_STRING_BYTES,
    parse_count,
    parse_duration,
    parse_epoch,
    parse_object,
    parse_text,
)


@dataclass(frozen=True, slots=True)
class LastRun:
    """Hold the last run of a command under `marketswarm exec`; a value is None if it is unknown.

    `code` is the exit code. `signal` is the name of the signal, or `limit_sec` the time limit, that ended the
    command. `ts` is when it ended, in epoch seconds, and `said` the outcome as text: `exit 3 after 12.4 s`.
    `detail` is what was said about a failure: the first line of a ping's body, for example, or after `said`
    the last one of a command's output.
    A run that its sender calls `quiet` is not to be missed if it failed. `via` is the way by which somebody
    else reported it.
    """

    svc: str | None = None
    ok: bool | None = None
    code: int | None = None
    took_sec: float | None = None
    ts: float | None = None
    signal: str | None = None
    limit_sec: float | None = None
    said: str | None = None
    detail: str | None = None
    quiet: bool = False
    via: str | None = None

    @property
    def outcome(self) -> str:
        """How it ended, with the reason of a failure: `exit 3 after 12.4 s: disk full`; may be empty."""
        said, detail = self.said or "", self.detail or ""
        return detail if detail.startswith(said) else f"{said}: {detail}" if detail else said


def parse_last_run(raw: bytes | None) -> LastRun | None:
    """Parse the value of a `run:` key; return None if no part of it can be used."""
    if raw is None:  # most services are not run by `marketswarm exec`
        return None
    found = parse_object(raw)
    ok = found.get("ok")
    texts = {
        name: parse_text(found.get(name), MAX_STRING_BYTES) for name in ("svc", "signal", "said", "detail")
    }
    run = LastRun(
        **texts,
        ok=ok if isinstance(ok, bool) else None,
        code=parse_count(found.get("code")),
        took_sec=parse_duration(found.get("took_sec")),
        ts=parse_epoch(found.get("ts")),
        limit_sec=parse_duration(found.get("limit_sec")),
        quiet=found.get("quiet") is True,
        via=parse_text(found.get("via"), MAX_VIA_CHARS),
    )
    return None if run == LastRun() else run
