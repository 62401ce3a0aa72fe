"""`topology` as values: who runs, what flows, what is wrong. Pure. What makes them is `topology_seen.py`."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Instance:
    """One running process. Seconds."""

    boot: str | None = None
    host: str | None = None
    version: str | None = None
    rev: int | None = None
    up_sec: float | None = None
    restarts_hour: int | None = None
    skew_sec: float | None = None
    status: str | None = None
    detail: str | None = None
    crash_loop: bool = False


@dataclass(frozen=True, slots=True)
class Service:
    """A service of the truth; `instances` is None when nobody knows."""

    svc: str
    replicas: int | None = None
    instances: Sequence[Instance] | None = None
    conflict: bool = False


@dataclass(frozen=True, slots=True)
class Reader:
    """Who reads a key; what its group has before it, where it has one."""

    svc: str
    group: str | None = None
    lag: int | None = None
    pending: int | None = None
    oldest_sec: float | None = None
    rate: float | None = None


@dataclass(frozen=True, slots=True)
class Flow:
    """A key, who writes it, who reads it, what is there. `kind` is None when nobody knows."""

    bus: str
    key: str
    writers: Sequence[str] = ()
    readers: Sequence[Reader] = ()
    kind: str | None = None
    length: int | None = None
    rate: float | None = None
    last_sec: float | None = None
    subscribers: int | None = None


@dataclass(frozen=True, slots=True)
class Wrong:
    """What is wrong with a flow."""

    what: str
    bus: str
    key: str
    svc: str | None
    text: str


@dataclass(frozen=True, slots=True)
class Picture:
    """All of it. `notes` are what a person should know of it; `live`: it is more than the truth."""

    revision: int | None
    live: bool
    services: Sequence[Service]
    flows: Sequence[Flow]
    wrong: Sequence[Wrong]
    notes: Sequence[str]
