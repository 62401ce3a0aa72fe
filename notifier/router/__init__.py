"""Decide which messages are sent over which channels, and when. Pure: takes events and the time, does no I/O.

Enters: events, outcomes of messages, what people asked for, and the time.
Leaves: decisions: messages to send, records to keep, the state to store.
Never: an outage that is down and neither queued, told nor held back for a named reason.
"""

# `Router` is the entry point, and has the list of the stages that a notice passes (`stages.py`).
# `suppression.py` says why a message is held back, `healing.py` whether it waits for the medic,
# `incident_state.py` where an incident stands, `timers.py` which notices become due as time passes,
# `pending.py` when a group and the digest are due, `grouping.py` what goes into one message, `render.py` its
# words, `defect.py` what went wrong inside. Not here: reading events, sending, and the outcome of a message.

from notifier.router.defect import Defect, DefectKind
from notifier.router.healing import MedicState
from notifier.router.incident import HELD, Decision
from notifier.router.policy import Policy, Section
from notifier.router.router import LogPosition, Router

__all__ = [
    "HELD",
    "Decision",
    "Defect",
    "DefectKind",
    "LogPosition",
    "MedicState",
    "Policy",
    "Router",
    "Section",
]
