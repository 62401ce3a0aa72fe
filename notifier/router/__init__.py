"""What people are told, when, and in which message. Pure: events and the time in, messages due out.

`Router` is the whole. Why something is held back is decided in `holding.py`, what comes with time alone in
`timing.py`, what is one message in `speaking.py`, the words in `telling.py`. Not here: reading, sending, and
what has become of a message.
"""

from notifier.router.grouping import Due
from notifier.router.incident import HELD, Incident, Reason
from notifier.router.policy import Policy, Section
from notifier.router.router import Router

__all__ = ["HELD", "Due", "Incident", "Policy", "Reason", "Router", "Section"]
