"""Parse and encode heartbeats, which are JSON messages. Pure.

Anyone who can reach the bus may send a payload, so an invalid one is a value (`MalformedBeat`), never an
exception. The time at which a beat was received is not handled here: the beat's `ts` is what the sender
claims, and decides nothing.
"""

import re
from dataclasses import dataclass
from enum import Enum
from math import isfinite
from typing import Any, Final, Literal, NamedTuple

import orjson

MAX_BEAT_BYTES: Final = 4096
MAX_DETAIL_CHARS: Final = 200
MAX_BOOT_CHARS: Final = 64
MAX_HOST_CHARS: Final = 64
MAX_VERSION_CHARS: Final = 32
MAX_EXIT_CODE: Final = 255
MAX_RID_CHARS: Final = 36
"""The longest id of a run: the length of a UUID as text."""
MAX_VIA_CHARS: Final = 16
MAX_LIFE_SEC: Final = 1e9
"""Longer lives of a stored beat are not read."""

Status = Literal["ok", "degraded", "stopping"]
RunReport = Literal["started", "ended", "failed", "log"]
"""What a beat reports about a run of a job."""
_RUN_REPORTS: Final = frozenset({"started", "ended", "failed", "log"})
_find_counts: Final = re.compile(rb'(0|[1-9]\d{0,17}),"ts":((?:0|[1-9]\d{0,14})\.\d{3})').fullmatch


class Meaning(Enum):
    """The three things that a payload can be; `Beat.meaning` decides, for every reader."""

    LIFE = "life"  # a sign of life
    REPORT = "report"  # a run started or failed, or a line of its log: no sign of life
    GOODBYE = "goodbye"  # the process ends: no sign of life, and there was one right before it


@dataclass(frozen=True, slots=True)
class Beat:
    """A valid heartbeat.

    `i` counts a process's beats from 1; `ts` is in epoch seconds by the sender's clock; `boot` is the id of
    the process, None if the sender has none; `rev` is the revision of the truth that the sender uses; `every`
    is the sender's interval in seconds. `exit_code`, in a `stopping` beat or in a report that a run ended or
    failed, is the exit code of the command. `run` is what the beat reports about a run of a job, None if it
    is not such a report; `rid` is the id of that run. `via` is the way by which a report came, such as
    `alertmanager`; None for a process that reports itself. `life` is the time to live, in seconds, with which
    its sender stores the beat under `beat:<svc>`; None if the sender does not say.
    """

    svc: str
    i: int
    ts: float
    boot: str | None = None
    rev: int | None = None
    status: Status = "ok"
    detail: str | None = None
    every: float | None = None
    exit_code: int | None = None
    run: RunReport | None = None
    rid: str | None = None
    via: str | None = None
    life: float | None = None

    @property
    def meaning(self) -> Meaning:
        if self.run is not None and self.run != "ended":
            return Meaning.REPORT
        return Meaning.GOODBYE if self.status == "stopping" else Meaning.LIFE


@dataclass(frozen=True, slots=True)
class Sender:
    """Facts about the process that sends beats; they stay the same until it ends.

    `host` and `version` are names, `started` is when it began, in epoch seconds by its own clock.
    """

    host: str | None = None
    version: str | None = None
    started: float | None = None


@dataclass(frozen=True, slots=True)
class MalformedBeat:
    """A payload that is not a beat. `reason` is the word in the log and the label of the metric."""

    reason: Literal["too_long", "not_json", "not_an_object", "other_svc", "bad_i", "bad_ts"]


def parse_beat(payload: bytes, svc: str) -> Beat | MalformedBeat:
    """Parse a payload from the channel of `svc`; return the beat, or the reason why it is not one.

    Optional keys of a wrong type are ignored, because they were added later, and a sender that makes one of
    them wrong is alive all the same.
    """
    if len(payload) > MAX_BEAT_BYTES:
        return MalformedBeat("too_long")
    try:
        document: Any = orjson.loads(payload)
    except orjson.JSONDecodeError:
        return MalformedBeat("not_json")
    if type(document) is not dict:
        return MalformedBeat("not_an_object")
    if document.get("svc") != svc:
        return MalformedBeat("other_svc")
    i: Any = document.get("i")
    ts: Any = document.get("ts")
    if type(i) is not int or i < 0:
        return MalformedBeat("bad_i")
    if type(ts) not in (int, float) or not isfinite(ts):
        return MalformedBeat("bad_ts")
    return _build_beat(svc, i, float(ts), document)


def _build_beat(svc: str, i: int, ts: float, document: dict[str, Any]) -> Beat:
    """Return the beat with its optional fields, the default for each of a wrong type.

    A report about a run is not a goodbye, so the status `stopping` in it becomes the default, too.
    """
    boot: Any = document.get("boot")
    rev: Any = document.get("rev")
    status: Any = document.get("status")
    detail: Any = document.get("detail")
    every: Any = document.get("every")
    exit_code: Any = document.get("exit_code")
    run: Any = document.get("run")
    rid: Any = document.get("rid")
    via: Any = document.get("via")
    life: Any = document.get("life")
    if type(run) is not str or run not in _RUN_REPORTS:
        run = None
    elif status == "stopping":
        status = "ok"
    return Beat(
        svc,
        i,
        ts,
        boot if type(boot) is str and 0 < len(boot) <= MAX_BOOT_CHARS else None,
        rev if type(rev) is int else None,
        status if status in ("degraded", "stopping") else "ok",
        detail[:MAX_DETAIL_CHARS] if type(detail) is str and detail else None,
        float(every) if type(every) in (int, float) and 0 < every < float("inf") else None,
        exit_code if type(exit_code) is int and 0 <= exit_code <= MAX_EXIT_CODE else None,
        run,
        rid if type(rid) is str and 0 < len(rid) <= MAX_RID_CHARS else None,
        via if type(via) is str and 0 < len(via) <= MAX_VIA_CHARS else None,
        float(life) if type(life) in (int, float) and 0 < life <= MAX_LIFE_SEC else None,
    )


class BeatForm(NamedTuple):
    """All bytes of a canonical beat except `i` and `ts`: what comes before and after them.

    A payload of this form is the same beat, of the same process, with another `i` and `ts`.
    """

    head: bytes
    tail: bytes

    def parse_counts(self, payload: bytes) -> tuple[int, float] | None:
        """Return `i` and `ts` of a payload of this form; None for any other payload."""
        head, tail = self
        if not payload.startswith(head) or not payload.endswith(tail) or len(payload) > MAX_BEAT_BYTES:
            return None
        return parse_counts(payload, len(head), len(payload) - len(tail))


def find_form(payload: bytes, beat: Beat, known_tail: bytes | None = None) -> BeatForm | None:
    """Return the form of a payload that `parse_beat` accepted as `beat`; None if it is not canonical.

    A report about a run has no form, because none is like the one before. `known_tail` is that of a form
    that was found before, and is not searched again.
    """
    head = b'{"svc":"%b","i":' % beat.svc.encode()
    middle = b'%d,"ts":%.3f' % (beat.i, beat.ts)
    tail = payload[len(head) + len(middle) :]
    if beat.run is not None or not payload.startswith(head + middle) or tail[:1] not in (b",", b"}"):
        return None
    # a second "i" or "ts" in the tail would be the one that counts
    if tail != known_tail and any(key in tail for key in (b'"svc"', b'"i"', b'"ts"', b"\\")):
        return None
    return BeatForm(head, tail)


def parse_counts(payload: bytes, start: int, end: int) -> tuple[int, float] | None:
    """Return `i` and `ts`, which a canonical payload has between two places; None if they are not there.

    They must be written as `encode_beat` does: then the payload is a beat if all its other bytes are those
    of a canonical beat.
    """
    found = _find_counts(payload, start, end)
    return None if found is None else (int(found[1]), float(found[2]))


def parse_sender(payload: bytes) -> Sender:
    """Return the sender in a payload that `parse_beat` accepted, and whose sender few listeners need."""
    document: Any = orjson.loads(payload)
    host: Any = document.get("host")
    version: Any = document.get("version")
    started: Any = document.get("started")
    return Sender(
        host if type(host) is str and 0 < len(host) <= MAX_HOST_CHARS else None,
        version if type(version) is str and 0 < len(version) <= MAX_VERSION_CHARS else None,
        float(started) if type(started) in (int, float) and isfinite(started) else None,
    )


def compute_life_sec(timeout_sec: float) -> float:
    """Return the time to live, in seconds, with which a beat is stored under `beat:<svc>`."""
    return 2 * timeout_sec


def compute_beat_age_sec(timeout_sec: float, left_ms: float, beat: Beat | None = None) -> float | None:
    """Return how many seconds ago a beat was stored under `beat:<svc>`, from what its key has left to live.

    The life with which it was stored is what the beat says; of one that does not say it, it follows from the
    timeout in force. Return None for a key without a time to live, or with a longer one than that.
    """
    life_ms = 1000 * ((beat and beat.life) or compute_life_sec(timeout_sec))
    # rounding on the way may make what is left a millisecond longer
    return max(0.0, life_ms - left_ms) / 1000 if 0 <= left_ms <= life_ms + 1 else None


def encode_beat(beat: Beat, sender: Sender | None = None) -> bytes:
    """Return a beat as canonical JSON: `svc`, `i` and `ts` first, and no key without a value.

    The parts that vary from beat to beat are adjacent, and `ts` always has three decimals, so a listener can
    compare all other bytes with those of the beat before. `detail` is cut to 200 characters. A text may hold
    bytes that are no UTF-8, as Python decodes file names and arguments (lone surrogates): each becomes `?`.
    """
    required: dict[str, Any] = {"svc": beat.svc, "i": beat.i}
    fields = {
        "boot": beat.boot,
        "rev": beat.rev,
        "status": beat.status if beat.status != "ok" or beat.detail else None,
        "detail": _bound_text(beat.detail, MAX_DETAIL_CHARS),
        "every": None if beat.every is None else round(beat.every, 3),
        "exit_code": beat.exit_code,
        "run": beat.run,
        "rid": _bound_text(beat.rid, MAX_RID_CHARS),
        "via": _bound_text(beat.via, MAX_VIA_CHARS),
        "life": None if beat.life is None else round(beat.life, 3),
    }
    if sender is not None:
        fields |= {
            "host": _bound_text(sender.host, MAX_HOST_CHARS),
            "version": _bound_text(sender.version, MAX_VERSION_CHARS),
            "started": round(sender.started, 3) if sender.started else None,
        }
    optional = {name: value for name, value in fields.items() if value is not None}
    rest = orjson.dumps(optional)[1:]
    return b'%b,"ts":%.3f%b' % (orjson.dumps(required)[:-1], beat.ts, b"," + rest if optional else rest)


def _bound_text(text: str | None, most: int) -> str | None:
    return text[:most].encode("utf-8", "replace").decode() if text else None
