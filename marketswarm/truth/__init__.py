"""The truth: the one document that configures a fleet. Pure: no I/O, no clock.

`load(raw)` returns an accepted document or raises all its errors at once; `Truth` holds it and answers the
questions of agents; `diff` compares two of them. Not here: where documents are kept (`marketswarm.seeding`)
and how agents get theirs.
"""

from marketswarm.truth.credentials import resolve
from marketswarm.truth.diff import Changes, diff
from marketswarm.truth.errors import Problem, TruthError, nearest
from marketswarm.truth.model import (
    DEFAULT_TIMEOUT_SEC,
    HEALER,
    MARKET,
    MOST_REPLICAS,
    SYSTEM,
    AccessPoint,
    AccessPoints,
    BusEntry,
    Heartbeat,
    ProbeTarget,
    Service,
    Threshold,
    Truth,
    Watch,
    find_probe_target,
    find_probe_targets,
)
from marketswarm.truth.parse import Loaded, load

__all__ = [
    "DEFAULT_TIMEOUT_SEC",
    "HEALER",
    "MARKET",
    "MOST_REPLICAS",
    "SYSTEM",
    "AccessPoint",
    "AccessPoints",
    "BusEntry",
    "Changes",
    "Heartbeat",
    "Loaded",
    "ProbeTarget",
    "Problem",
    "Service",
    "Threshold",
    "Truth",
    "TruthError",
    "Watch",
    "diff",
    "find_probe_target",
    "find_probe_targets",
    "load",
    "nearest",
    "resolve",
]
