"""The states of services and buses as enums, their transitions as tables, and the reasons of a miss. Pure.

`TRANSITIONS` has the table of DETECTION.md, in the same order.
"""

from enum import StrEnum
from typing import Final


class Word(StrEnum):
    """A word that is looked up in tables at each step: its hash is that of its text, made without Python."""

    __hash__ = str.__hash__


class State(Word):
    """The state of a service or bus; the same word as in the roster."""

    UNKNOWN = "unknown"
    UP = "up"
    DOWN = "down"
    UNWATCHED = "unwatched"


class Trigger(Word):
    """The event that moves a service or bus from one state to another."""

    BEAT = "beat"
    DUE = "due"
    REMOVED = "removed"


class Publication(StrEnum):
    """The places where a verdict is published."""

    ALERT = "alert"  # health key, log of alerts, and channel
    LOG = "log"  # health key and log of alerts, not the channel
    NONE = "none"  # nowhere; the roster's entry is deleted


class Reason(StrEnum):
    """The reason of a miss; `WatchedService.miss_reason` decides which it is."""

    SILENT = "silent"
    NEVER_SEEN = "never_seen"
    STOPPED = "stopped"
    FAILED = "failed"  # a run failed, and its report or the truth asks for an alert on that
    OVERDUE = "overdue"  # a run of a job was not reported by its deadline
    NEVER_ENDED = "never_ended"  # a run of a job started, and did not end within its longest time


TRANSITIONS: Final[dict[tuple[State, Trigger], tuple[State, Publication]]] = {
    (State.UNKNOWN, Trigger.BEAT): (State.UP, Publication.LOG),
    (State.UNKNOWN, Trigger.DUE): (State.DOWN, Publication.ALERT),
    (State.UP, Trigger.DUE): (State.DOWN, Publication.ALERT),
    (State.DOWN, Trigger.BEAT): (State.UP, Publication.ALERT),
    (State.UNKNOWN, Trigger.REMOVED): (State.UNWATCHED, Publication.NONE),
    (State.UP, Trigger.REMOVED): (State.UNWATCHED, Publication.NONE),
    (State.DOWN, Trigger.REMOVED): (State.UNWATCHED, Publication.ALERT),
}
"""Transitions of a service."""


class Stage(Word):
    """What the detector does with a service; whether that is up is its `State`."""

    RESTORING = "restoring"  # what an earlier run saved about it was not applied yet
    EVALUATED = "evaluated"  # its deadline counts, unless it is down
    SUSPECTED = "suspected"  # its deadline has passed, and its `beat:<svc>` is being read
    DROPPED = "dropped"  # it is no longer watched, or replaced by another object


class Step(Word):
    """What moves a service from one stage to another."""

    RESTORED = "restored"
    DUE = "due"
    ANSWERED = "answered"  # the read of `beat:<svc>` was answered or failed, or is not needed any more
    DROPPED = "dropped"


STAGES: Final[dict[tuple[Stage, Step], Stage]] = {
    (Stage.RESTORING, Step.RESTORED): Stage.EVALUATED,
    (Stage.EVALUATED, Step.DUE): Stage.SUSPECTED,
    (Stage.SUSPECTED, Step.ANSWERED): Stage.EVALUATED,
    (Stage.RESTORING, Step.DROPPED): Stage.DROPPED,
    (Stage.EVALUATED, Step.DROPPED): Stage.DROPPED,
    (Stage.SUSPECTED, Step.DROPPED): Stage.DROPPED,
}
"""Transitions of a service's stage. A step that is not here changes nothing."""

BUS_TRANSITIONS: Final[dict[tuple[State, Trigger], tuple[State, Publication]]] = {
    (State.UNKNOWN, Trigger.BEAT): (State.UP, Publication.NONE),
    (State.UNKNOWN, Trigger.DUE): (State.DOWN, Publication.ALERT),
    (State.UP, Trigger.DUE): (State.DOWN, Publication.ALERT),
    (State.DOWN, Trigger.BEAT): (State.UP, Publication.ALERT),
}
"""Transitions of a bus. A bus that is heard from the start is not published."""
