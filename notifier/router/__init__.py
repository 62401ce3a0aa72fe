"""Decide what is sent to whom, when, and in which message. Pure: events and the time in, messages due out.

`Router` is the entry. `suppression.py` decides why a message is held back, `timers.py` what time alone
brings, `pending.py` when a group is due, `grouping.py` what goes into one message, `render.py` its words.
Not here: reading events, sending, and what became of a message.
"""

from notifier.router.grouping import DueMessage
from notifier.router.incident import HELD, Incident, Reason
from notifier.router.policy import Policy, Section
from notifier.router.router import Router

__all__ = ["HELD", "DueMessage", "Incident", "Policy", "Reason", "Router", "Section"]
