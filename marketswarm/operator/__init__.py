"""What people say back to a fleet that tells them things: be silent on this, I have seen that, send it again.

Pure: names of keys and the shapes of what stands under them, shared by those who write them (the command
line) and the one who heeds them (the notifier). Not here: what follows from a silence or an
acknowledgement; that is the notifier's to decide.
"""

from marketswarm.operator.keys import ASKS, DEAD, GROUP, SILENCES, STATE, answers_key, told_key
from marketswarm.operator.request import ALL, Answer, OperatorRequest, RequestKind
from marketswarm.operator.silence import Silence, merge_silences, missing_silences

__all__ = [
    "ALL",
    "ASKS",
    "DEAD",
    "GROUP",
    "SILENCES",
    "STATE",
    "Answer",
    "OperatorRequest",
    "RequestKind",
    "Silence",
    "answers_key",
    "merge_silences",
    "missing_silences",
    "told_key",
]
