"""How the healer knows (DETECTION.md): pure, no I/O, no clock, no await.

`clock` measures silence, `wheel` finds what falls due, `record` holds the rule, `judgement` concludes,
`memory` takes up what an earlier run knew; `gap` tells what happened while nobody listened, `looking_back`
when, and `noting` picks what a later run must know for that.
"""

from marketswarm.detector.adopting import adopt, adopt_bus
from marketswarm.detector.clock import CANARY_EVERY_SEC, OVERDUE_SEC, ListeningClock, Moment
from marketswarm.detector.judgement import Counts, Liveness, Tick
from marketswarm.detector.memory import recall, recall_bus
from marketswarm.detector.record import Heard, Record, warm_up
from marketswarm.detector.refusal import recall_refused, refuse
from marketswarm.detector.verdict import (
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
from marketswarm.detector.watched_bus import NO_TIMEOUT, WatchedBus
from marketswarm.detector.wheel import TimingWheel

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
