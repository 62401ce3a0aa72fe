"""The truth: the one document that configures a fleet. Pure: no I/O, no clock.

`parse_truth(raw)` returns an accepted document or raises all its errors at once; `Truth` holds it and answers
the questions of agents; `diff_truths` compares two of them. Where documents are kept is the matter of
`marketswarm.seeding`.

Enters: bytes that anyone may have written.
Leaves: a frozen `Truth`, or errors with the path, the value and the remedy.
Never: a truth that is half in force, or a secret in a document, an error or a difference.
"""

from marketswarm.truth.credentials import resolve_references
from marketswarm.truth.diff import Changes, diff_truths, format_changes
from marketswarm.truth.errors import Problem, TruthError, describe_unknown, find_nearest, suggest_name
from marketswarm.truth.model import (
    HEALER,
    MARKET,
    MAX_REPLICAS,
    MEDIC,
    RESERVED_USERS,
    SYSTEM,
    AccessPoint,
    Heartbeat,
    Service,
    Truth,
    Watch,
    first_point,
    point_like,
)
from marketswarm.truth.parse import ParsedTruth, parse_truth
from marketswarm.truth.schedule import JobRule, Schedule
from marketswarm.truth.targets import (
    ESCALATED_RULE,
    PROPOSED_RULE,
    ProbeTarget,
    find_probe_target,
    find_probe_targets,
    find_rule_target,
)

__all__ = [
    "ESCALATED_RULE",
    "HEALER",
    "MARKET",
    "MAX_REPLICAS",
    "MEDIC",
    "PROPOSED_RULE",
    "RESERVED_USERS",
    "SYSTEM",
    "AccessPoint",
    "Changes",
    "Heartbeat",
    "JobRule",
    "ParsedTruth",
    "ProbeTarget",
    "Problem",
    "Schedule",
    "Service",
    "Truth",
    "TruthError",
    "Watch",
    "describe_unknown",
    "diff_truths",
    "find_nearest",
    "find_probe_target",
    "find_probe_targets",
    "find_rule_target",
    "first_point",
    "format_changes",
    "parse_truth",
    "point_like",
    "resolve_references",
    "suggest_name",
]
