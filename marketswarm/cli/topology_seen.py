"""The picture that `topology` shows: what the truth says flows, and what mesh saw of it. Pure.

The truth decides what there is; of what mesh wrote only that is taken which belongs to it, since anyone may
have written there.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from marketswarm.cli.topology_picture import Flow, Instance, Picture, Reader, Service, Wrong
from marketswarm.text import escape_text, format_duration
from marketswarm.truth import Truth
from marketswarm.truth.flows import Fault, Flows, Key, flows_of, unfed

OLD_SEC: Final = (
    30.0  # a picture that nobody wrote anew for so long, and three times as often as it should be
)
INSTANCES: Final = 50  # of a service, and so on: more of them show no more
FAULTS: Final = 100
STRANGERS: Final = 10
TEXT: Final = 300


@dataclass(frozen=True, slots=True)
class Written:
    """What mesh wrote under a key, and how long ago by the server's clock; or why there is nothing."""

    found: Mapping[str, Any] = field(default_factory=dict)
    age_sec: float | None = None
    why: str | None = None

    def unfit(self, name: str) -> str | None:
        """Why it is not to be gone by; None when it is."""
        if self.why is not None:
            return self.why
        if not self.found:
            return f"mesh has written no {name}"
        if self.age_sec is None:
            return f"how old {name} is can't be told"
        every_sec = _number(self.found.get("every_sec")) or 0.0
        if self.age_sec > max(OLD_SEC, 3 * every_sec):
            return f"{name} is {format_duration(self.age_sec)} old"
        return None


def picture(truth: Truth, revision: int | None, topology: Written, flow: Written) -> Picture:
    """The truth, with what mesh saw of it as far as that is to be gone by."""
    flows = flows_of(truth)
    unfit = [
        (name, why)
        for name, one in (("mesh:topology", topology), ("mesh:flow", flow))
        if (why := one.unfit(name)) is not None
    ]
    seen = {} if topology.unfit("") else topology.found
    moving = None if flow.unfit("") else flow.found
    notes = [f"{why}: {_ALONE[name]}" for name, why in unfit]
    return Picture(
        revision,
        len(unfit) < 2,
        [_service(truth, svc, seen) for svc in truth.services],
        _flows(flows, moving or {}),
        _wrong_of(unfed(flows)) if moving is None else _wrong(flows, moving),
        [*dict.fromkeys(notes), *_remarks(seen, moving or {}, revision)],
    )


_ALONE: Final = {
    "mesh:topology": "who runs is not known",
    "mesh:flow": "what flows is drawn from the truth alone",
}


def _service(truth: Truth, svc: str, seen: Mapping[str, Any]) -> Service:
    replicas = truth.services[svc].replicas
    if not seen:
        return Service(svc, replicas)
    known = _object(_object(seen.get("services")).get(svc))
    at = _number(seen.get("ts"))
    found = [_instance(_object(one), at) for one in _list(known.get("instances"))[:INSTANCES]]
    return Service(svc, replicas, found, known.get("conflict") is True)


def _instance(one: Mapping[str, Any], at: float | None) -> Instance:
    up_sec, last_ts = _number(one.get("uptime_sec")), _number(one.get("last_ts"))
    since_sec = max(0.0, at - last_ts) if at is not None and last_ts is not None else 0.0
    return Instance(
        boot=_text(one.get("boot")),
        host=_text(one.get("host")),
        version=_text(one.get("version")),
        rev=_whole(one.get("rev")),
        up_sec=None if up_sec is None else round(up_sec + since_sec, 3),
        restarts_hour=_whole(one.get("restarts_hour")),
        skew_sec=_number(one.get("skew_sec")),
        status=_text(one.get("status")),
        detail=_text(one.get("detail")),
        crash_loop=one.get("crash_loop") is True,
    )


def _flows(flows: Flows, moving: Mapping[str, Any]) -> list[Flow]:
    keys = {_place(one): one for one in map(_object, _list(moving.get("keys")))}
    reads = {
        (_place(one), one.get("svc")): one
        for one in map(_object, _list(moving.get("edges")))
        if one.get("does") == "reads" and isinstance(one.get("svc"), str)
    }
    return [_flow(flows, key, keys.get((key.bus, key.name), {}), reads) for key in flows.keys]


def _flow(flows: Flows, key: Key, one: Mapping[str, Any], reads: Mapping[Any, Mapping[str, Any]]) -> Flow:
    readers = [_reader(svc, reads.get(((key.bus, key.name), svc), {})) for svc in flows.readers(key)]
    return Flow(
        key.bus,
        key.name,
        flows.writers(key),
        readers,
        _text(one.get("kind")),
        _whole(one.get("length")),
        _number(one.get("rate")),
        _number(one.get("last_sec")),
        _whole(one.get("subscribers")),
    )


def _reader(svc: str, one: Mapping[str, Any]) -> Reader:
    return Reader(
        svc,
        _text(one.get("group")),
        _whole(one.get("lag")),
        _whole(one.get("pending")),
        _number(one.get("oldest_sec")),
        _number(one.get("rate")),
    )


def _wrong(flows: Flows, moving: Mapping[str, Any]) -> list[Wrong]:
    known = {(key.bus, key.name) for key in flows.keys}
    listed = [_object(one) for one in _list(moving.get("faults"))[:FAULTS]]
    return [
        Wrong(
            _text(one.get("what")) or "?",
            *_place(one),
            _text(one.get("svc")),
            _text(one.get("text")) or "?",
        )
        for one in listed
        if _place(one) in known
    ]


def _wrong_of(faults: Sequence[Fault]) -> list[Wrong]:
    return [Wrong(one.what, one.key.bus, one.key.name, one.svc or None, one.text) for one in faults[:FAULTS]]


def _remarks(seen: Mapping[str, Any], moving: Mapping[str, Any], revision: int | None) -> list[str]:
    remarks = [f"mesh is deaf on {_text(bus) or '?'}" for bus in _list(seen.get("deaf"))[:STRANGERS]]
    away = list(_object(moving.get("away")).items())[:STRANGERS]
    remarks += [f"bus {_text(bus) or '?'} does not answer mesh: {_text(why) or '?'}" for bus, why in away]
    strangers = [_text(name) or "?" for name in _list(seen.get("strangers"))]
    if strangers:
        more = f" and {len(strangers) - STRANGERS} more" if len(strangers) > STRANGERS else ""
        remarks.append(f"strangers beat here: {', '.join(strangers[:STRANGERS])}{more}")
    if unmeasured := _whole(moving.get("unmeasured")):
        remarks.append(f"{unmeasured} keys are too many to be looked at")
    theirs = _whole(moving.get("revision"))
    if theirs is not None and revision is not None and theirs != revision:
        remarks.append(f"mesh goes by revision {theirs} of the truth, and {revision} is the latest")
    return remarks


def _place(one: Mapping[str, Any]) -> tuple[str, str]:
    bus, key = one.get("bus"), one.get("key")
    return (bus, key) if isinstance(bus, str) and isinstance(key, str) else ("", "")


def _object(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _text(value: Any) -> str | None:
    return escape_text(value[:TEXT]) if isinstance(value, str) and value else None


def _whole(value: Any) -> int | None:
    return value if type(value) is int else None


def _number(value: Any) -> float | None:
    return float(value) if type(value) in (int, float) else None
