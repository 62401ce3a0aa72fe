"""Detection of silent services and lost buses (docs/detection.md). Pure: no I/O, no clock, no await.

Enters: messages of the buses with the time at which they arrived, canaries, `beat:<svc>` as read back, a
roster, and the state that an earlier run saved.
Leaves: verdicts, and the state to save.
Never: a miss of a service that may have beaten while nobody listened, a replayed beat as a sign of life, or
two verdicts about one change.
"""

# `clock` measures silence, `wheel` finds the services that are due, `heard` stores beats, `instances` knows
# replays, `service` has the rule, `rule` the times that many services share, `trouble` what only some have,
# `stored` applies what is stored of a service that was not heard, `job` has the rule of runs, `bus` finds
# lost buses, `detector` takes the messages and returns verdicts, `roster` plans the change to another roster,
# `restore` applies the state that an earlier run saved, `restarts` observes restarts while no healer
# listened, and keeps a `history` of each service; `states` has the states and their
# transitions, `saved` and `verdict` the values that go in and out.

# what is imported for checkers of types is what this package gives: see `lazy_names`
# mypy: implicit-reexport
# ruff: noqa: F401

from typing import TYPE_CHECKING

from marketswarm.lazy_names import import_when_used

if TYPE_CHECKING:
    from marketswarm.detector.bus import NO_TIMEOUT
    from marketswarm.detector.clock import CANARY_EVERY_SEC, OVERDUE_SEC, Moment
    from marketswarm.detector.detector import START_UP_SEC, Detector
    from marketswarm.detector.flood import FLOOD
    from marketswarm.detector.restore import (
        adopt_state,
        is_miss_overruled,
        restore_lost_bus,
        restore_service,
        restore_services,
    )
    from marketswarm.detector.roster import RosterChange, plan_change
    from marketswarm.detector.saved import EndedRun, FailedRun, LastBeat, SavedBeat, SavedJob, SavedService
    from marketswarm.detector.service import WatchedService
    from marketswarm.detector.states import Publication, Reason, Stage, State
    from marketswarm.detector.verdict import Subject, UnheardBeat, Verdict
    from marketswarm.detector.wheel import TimingWheel

__getattr__ = import_when_used(__name__)
