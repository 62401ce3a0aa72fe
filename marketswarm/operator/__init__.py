"""Define operators' silences, and their requests to acknowledge, resend and test. Pure.

The command line writes these values to the buses, and the notifier reads them. Not here: what follows
from a silence or an acknowledgement, which the notifier decides.
"""

from marketswarm.operator.request import ALL, Answer, OperatorRequest, RequestKind
from marketswarm.operator.silence import Silence, find_missing_silences, merge_silences

__all__ = [
    "ALL",
    "Answer",
    "OperatorRequest",
    "RequestKind",
    "Silence",
    "find_missing_silences",
    "merge_silences",
]
