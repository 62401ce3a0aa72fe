"""Parse the pings of a service, as `pings:<svc>` has them, and the runs that they report. Pure.

A ping reports that a job started, succeeded or failed, or adds a line to its log. Runs are paired by the id
that the client gave (`rid`); without ids, an end belongs to the last start. Pings come over HTTP, but for
those of `marketswarm exec`: it adds one for each whole run.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from math import isfinite
from typing import Final, TypeVar

from marketswarm.beat import MAX_EXIT_CODE, MAX_RID_CHARS, compute_life_sec
from marketswarm.text import decode_text, parse_digits

PINGS_KEPT: Final = 100
"""About how many pings of a service are kept."""
PINGS_KEPT_SEC: Final = 35 * 86_400.0
"""How long they are kept after the last one, and how a run ended: enough for a monthly job."""
MAX_BODY_BYTES: Final = 10_000
"""How much of a ping's body is kept: its end."""
MAX_CLIENT_CHARS: Final = 64
MAX_METHOD_CHARS: Final = 10
MAX_USER_AGENT_CHARS: Final = 200
_BODIES_OF_RUN: Final = 20
Word = TypeVar("Word", bound=StrEnum)
_ENTRY_ID: Final = re.compile(rb"(\d{1,15})-(\d{1,9})")


def compute_kept_sec(timeout_sec: float) -> float:
    """Return how long the pings and the last run of a service with this timeout are kept."""
    return max(PINGS_KEPT_SEC, compute_life_sec(timeout_sec))


class PingKind(StrEnum):
    """What a ping says of its job, in the words of Healthchecks."""

    SUCCESS = "success"
    START = "start"
    FAIL = "fail"
    LOG = "log"


class PingForm(StrEnum):
    """Whose API a ping was sent by; EXEC is no API, but `marketswarm exec`."""

    HEALTHCHECKS = "healthchecks"
    KUMA = "kuma"
    GATUS = "gatus"
    ALERTMANAGER = "alertmanager"
    EXEC = "exec"


@dataclass(frozen=True, slots=True, kw_only=True)
class JobPing:
    """One ping of a service.

    `ts` is when it was received, in epoch seconds by the board's clock; with the form EXEC it is when the run
    ended, which then took `took_sec`, and there is no `method`. `client` is the address it came from.
    `body` holds the last bytes of its body: MAX_BODY_BYTES on the stream, without secrets; `size` says how
    many there were. `head` holds the first ones before they go to the stream, if `body` does not.
    `n` numbers the pings of a service: it rises, and 0 stands for a ping that is not on the stream.
    """

    kind: PingKind
    ts: float
    form: PingForm = PingForm.HEALTHCHECKS
    rid: str | None = None
    exit_code: int | None = None
    took_sec: float | None = None
    method: str = "GET"
    client: str = ""
    user_agent: str = ""
    body: bytes = b""
    head: bytes = b""
    size: int = 0
    n: int = 0

    @property
    def text(self) -> str:
        return self.body.decode("utf-8", "replace")

    def encode(self) -> dict[str, str]:
        """Return the fields of the stream's entry: all but its body, and without those that have no value."""
        fields = {"kind": str(self.kind), "ts": f"{self.ts:.3f}", "form": str(self.form)}
        if self.rid:
            fields["rid"] = self.rid[:MAX_RID_CHARS]
        if self.exit_code is not None:
            fields["exit_code"] = str(self.exit_code)
        if self.took_sec is not None:
            fields["took_sec"] = f"{self.took_sec:.3f}"
        if self.form is not PingForm.EXEC:
            fields["method"] = self.method[:MAX_METHOD_CHARS]
            fields["client"] = self.client[:MAX_CLIENT_CHARS]
        if self.user_agent:
            fields["user_agent"] = self.user_agent[:MAX_USER_AGENT_CHARS]
        if self.body:
            fields["size"] = str(self.size)
        return fields


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRun:
    """One run of a job, as its pings tell it.

    Times are epoch seconds. `started_at` is None if no ping reported the start, `ended_at` while it runs, or
    if its end was never reported. `ok` is None until it ended. `bodies` are those of its pings, oldest first.
    """

    rid: str | None
    started_at: float | None
    ended_at: float | None = None
    ok: bool | None = None
    exit_code: int | None = None
    bodies: tuple[str, ...] = ()

    @property
    def output(self) -> str:
        """What the run wrote: the end of all its bodies, MAX_BODY_BYTES characters at most."""
        return "\n".join(body.rstrip() for body in self.bodies)[-MAX_BODY_BYTES:]

    @property
    def took_sec(self) -> float | None:
        if self.started_at is None or self.ended_at is None:
            return None
        return round(max(0.0, self.ended_at - self.started_at), 3)


def parse_ping(entry_id: bytes, fields: Mapping[bytes, bytes]) -> JobPing | None:
    """Return the ping in an entry of the stream; None if the entry is not a ping."""
    place = _ENTRY_ID.fullmatch(entry_id)
    kind, ts = _parse_word(PingKind, fields.get(b"kind")), _parse_float(fields.get(b"ts"))
    if place is None or kind is None or ts is None:
        return None
    body = fields.get(b"body", b"")[-MAX_BODY_BYTES:]
    took_sec = _parse_float(fields.get(b"took_sec"))
    exit_code = parse_digits(fields.get(b"exit_code"))
    return JobPing(
        kind=kind,
        ts=ts,
        form=_parse_word(PingForm, fields.get(b"form")) or PingForm.HEALTHCHECKS,
        rid=decode_text(fields.get(b"rid"))[:MAX_RID_CHARS] or None,
        exit_code=exit_code if exit_code is not None and exit_code <= MAX_EXIT_CODE else None,
        took_sec=took_sec if took_sec is not None and took_sec >= 0 else None,
        method=decode_text(fields.get(b"method"))[:MAX_METHOD_CHARS],
        client=decode_text(fields.get(b"client"))[:MAX_CLIENT_CHARS],
        user_agent=decode_text(fields.get(b"user_agent"))[:MAX_USER_AGENT_CHARS],
        body=body,
        size=max(len(body), parse_digits(fields.get(b"size")) or 0),
        n=int(place[1]) * 1000 + min(999, int(place[2])),
    )


def parse_pings(entries: Iterable[tuple[bytes, Mapping[bytes, bytes]]]) -> list[JobPing]:
    """Return the pings in entries of a stream, as XRANGE or XREVRANGE gives them, the oldest first."""
    parsed = (parse_ping(entry_id, fields) for entry_id, fields in entries)
    return sorted((ping for ping in parsed if ping is not None), key=lambda ping: ping.n)


def find_runs(pings: Sequence[JobPing]) -> list[JobRun]:
    """Return the runs that pings (oldest first) report, by the time of their first ping, the oldest first.

    A start that is followed by another start of the same id was never ended. A log line without a run that
    continues belongs to none.
    """
    runs: list[JobRun] = []
    running: dict[str | None, int] = {}  # by `rid`, the place in `runs`
    for ping in pings:
        bodies = (ping.text,) if ping.body else ()
        index = running.get(ping.rid)
        if ping.kind is PingKind.START:
            running[ping.rid] = len(runs)
            runs.append(JobRun(rid=ping.rid, started_at=ping.ts, bodies=bodies))
        elif ping.kind is PingKind.LOG:
            if index is not None:
                runs[index] = replace(runs[index], bodies=(*runs[index].bodies, *bodies)[-_BODIES_OF_RUN:])
        else:
            started_at = None if ping.took_sec is None else ping.ts - ping.took_sec
            run = JobRun(rid=ping.rid, started_at=started_at) if index is None else runs[index]
            ended = replace(
                run,
                ended_at=ping.ts,
                ok=ping.kind is PingKind.SUCCESS,
                exit_code=ping.exit_code,
                bodies=(*run.bodies, *bodies)[-_BODIES_OF_RUN:],
            )
            if index is None:
                runs.append(ended)
            else:
                runs[index] = ended
                del running[ping.rid]
    return runs


def _parse_word(words: type[Word], raw: bytes | None) -> Word | None:
    try:
        return words((raw or b"").decode("ascii"))
    except ValueError:
        return None


def _parse_float(raw: bytes | None) -> float | None:
    try:
        number = float(raw[:32]) if raw is not None else None
    except ValueError:
        return None
    return number if number is not None and isfinite(number) else None
