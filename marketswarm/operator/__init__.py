"""Define operators' silences, their requests to acknowledge, resend and test, and their tokens. Pure.

`marketswarm.operator_link` writes these values to the buses, and the notifier and the board read
them. Not here: what follows from a silence or an acknowledgement, which the notifier decides.
"""

from marketswarm.operator.request import ALL, Answer, OperatorRequest, RequestKind
from marketswarm.operator.silence import Silence, find_missing_silences, merge_silences, parse_silences

__all__ = [
    "ALL",
    "Answer",
    "OperatorRequest",
    "RequestKind",
    "Silence",
    "find_missing_silences",
    "merge_silences",
    "parse_silences",
]
