"""Parse and make heartbeats, which are messages of JSON. Pure.

Anyone who can reach the bus may send a payload, so an invalid one is a value (`MalformedBeat`), never an
exception. This module does not handle when a beat was received: its `ts` is what the sender claims, and
decides nothing.
"""

from dataclasses import dataclass
from math import isfinite
from typing import Any, Final, Literal

import orjson

MAX_BYTES: Final = 4096
MAX_DETAIL: Final = 200
MAX_BOOT: Final = 64
MAX_HOST: Final = 64
MAX_VERSION: Final = 32
MAX_EXIT_CODE: Final = 255

Status = Literal["ok", "degraded", "stopping"]


@dataclass(frozen=True, slots=True)
class Beat:
    """A valid heartbeat.

    `i` counts a process's beats from 1; `ts` is in epoch seconds by the sender's clock; `boot` is the id of
    the process, None if the sender has none; `rev` is the revision of the truth that the sender uses; `every`
    is the sender's interval in seconds. `exit_code`, in a `stopping` beat, is the exit code of the command.
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
    """A payload that is no beat. `reason` is the word in the log and the label of the metric."""

    reason: Literal["too_long", "not_json", "not_an_object", "other_svc", "bad_i", "bad_ts"]


def parse(payload: bytes, svc: str) -> Beat | MalformedBeat:
    """Parse a payload from the channel of `svc` into a beat, or into the reason why it is none.

    Optional keys of a wrong type are ignored: they were added later, and a sender that makes one of them
    wrong is alive all the same.
    """
    if len(payload) > MAX_BYTES:
        return MalformedBeat("too_long")
    try:
        found: Any = orjson.loads(payload)
    except orjson.JSONDecodeError:
        return MalformedBeat("not_json")
    if type(found) is not dict:
        return MalformedBeat("not_an_object")
    if found.get("svc") != svc:
        return MalformedBeat("other_svc")
    i: Any = found.get("i")
    ts: Any = found.get("ts")
    if type(i) is not int or i < 0:
        return MalformedBeat("bad_i")
    if type(ts) not in (int, float) or not isfinite(ts):
        return MalformedBeat("bad_ts")
    return Beat(svc, i, float(ts), *_optional(found))


def _optional(
    found: dict[str, Any],
) -> tuple[str | None, int | None, Status, str | None, float | None, int | None]:
    """Return the optional fields of a beat in the order of `Beat`; a wrong type becomes the default."""
    boot: Any = found.get("boot")
    rev: Any = found.get("rev")
    status: Any = found.get("status")
    detail: Any = found.get("detail")
    every: Any = found.get("every")
    exit_code: Any = found.get("exit_code")
    return (
        boot if type(boot) is str and 0 < len(boot) <= MAX_BOOT else None,
        rev if type(rev) is int else None,
        status if status in ("degraded", "stopping") else "ok",
        detail[:MAX_DETAIL] if type(detail) is str and detail else None,
        float(every) if type(every) in (int, float) and 0 < every < float("inf") else None,
        exit_code if type(exit_code) is int and 0 <= exit_code <= MAX_EXIT_CODE else None,
    )


def sender(payload: bytes) -> Sender:
    """Return the sender of a payload that `parse` accepted. `parse` omits it, since few listeners need it."""
    found: Any = orjson.loads(payload)
    host: Any = found.get("host")
    version: Any = found.get("version")
    started: Any = found.get("started")
    return Sender(
        host if type(host) is str and 0 < len(host) <= MAX_HOST else None,
        version if type(version) is str and 0 < len(version) <= MAX_VERSION else None,
        float(started) if type(started) in (int, float) and isfinite(started) else None,
    )


def make(
    svc: str,
    i: int,
    ts: float,
    *,
    boot: str | None = None,
    rev: int | None = None,
    status: Status = "ok",
    detail: str | None = None,
    every: float | None = None,
    exit_code: int | None = None,
    sender: Sender | None = None,
) -> bytes:
    """Return a beat as canonical JSON: `svc`, `i` and `ts` first, and no key without a value.

    The parts that vary from beat to beat are adjacent, and `ts` always has three decimals, so a listener can
    compare all other bytes with those of the beat before. `detail` is cut to 200 characters.
    """
    found: dict[str, Any] = {"svc": svc, "i": i}
    added: dict[str, Any] = {}
    if boot is not None:
        added["boot"] = boot
    if rev is not None:
        added["rev"] = rev
    if status != "ok" or detail:
        added["status"] = status
    if detail:
        added["detail"] = detail[:MAX_DETAIL]
    if every is not None:
        added["every"] = round(every, 3)
    if exit_code is not None:
        added["exit_code"] = exit_code
    if sender is not None:
        added |= _said_of(sender)
    rest = orjson.dumps(added)[1:]
    return b'%b,"ts":%.3f%b' % (orjson.dumps(found)[:-1], ts, b"," + rest if added else rest)


def _said_of(sender: Sender) -> dict[str, Any]:
    """Return the keys that a sender adds to a beat, without those that have no value."""
    found = {
        "host": sender.host and sender.host[:MAX_HOST],
        "version": sender.version and sender.version[:MAX_VERSION],
        "started": None if sender.started is None else round(sender.started, 3),
    }
    return {name: value for name, value in found.items() if value}
