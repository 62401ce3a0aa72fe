"""How the healer knows (DETECTION.md): pure, no I/O, no clock, no await.

`clock` measures silence, `wheel` finds what falls due, `record` holds the rule, `judgement` concludes,
`memory` takes up what an earlier run knew; `gap` tells what happened while nobody listened, `looking_back`
when, and `noting` picks what a later run must know for that.
"""

from marketswarm.liveness.adopting import adopt, adopt_bus
from marketswarm.liveness.clock import CANARY_EVERY_SEC, OVERDUE_SEC, ListeningClock, Moment
from marketswarm.liveness.judgement import Counts, Liveness, Tick
from marketswarm.liveness.memory import recall, recall_bus
from marketswarm.liveness.record import Heard, Record, warm_up
from marketswarm.liveness.refusal import recall_refused, refuse
from marketswarm.liveness.verdict import (
    Acquitted,
    Noted,
    Of,
    Reason,
    Remembered,
    State,
    Suspect,
    Testimony,
    Told,
    Verdict,
)
from marketswarm.liveness.watched_bus import NO_TIMEOUT, WatchedBus
from marketswarm.liveness.wheel import TimingWheel

__all__ = [
    "CANARY_EVERY_SEC",
    "NO_TIMEOUT",
    "OVERDUE_SEC",
    "Acquitted",
    "Counts",
    "Heard",
    "ListeningClock",
    "Liveness",
    "Moment",
    "Noted",
    "Of",
    "Reason",
    "Record",
    "Remembered",
    "State",
    "Suspect",
    "Testimony",
    "Tick",
    "TimingWheel",
    "Told",
    "Verdict",
    "WatchedBus",
    "adopt",
    "adopt_bus",
    "recall",
    "recall_bus",
    "recall_refused",
    "refuse",
    "warm_up",
]
