"""Define what operators write on the buses, and read and write it.

That is silences, requests to the notifier, tokens, ping keys and announcements. Each is kept on every bus, so
that one bus is enough, but for tokens and ping keys, which system-redis alone keeps. The command line, the
board and the notifier use this. Not here: what follows from a silence or an acknowledgement, which the
notifier decides.
"""

from marketswarm.operator.requests import (
    ALL,
    Answer,
    OperatorRequest,
    RequestKind,
    collect_answers,
    create_request,
    send_request,
)
from marketswarm.operator.silences import (
    MAX_SILENCE_SEC,
    Silence,
    StoredSilences,
    create_silence,
    find_missing_silences,
    merge_silences,
    parse_silences,
    read_silences,
    write_silence,
)

__all__ = [
    "ALL",
    "MAX_SILENCE_SEC",
    "Answer",
    "OperatorRequest",
    "RequestKind",
    "Silence",
    "StoredSilences",
    "collect_answers",
    "create_request",
    "create_silence",
    "find_missing_silences",
    "merge_silences",
    "parse_silences",
    "read_silences",
    "send_request",
    "write_silence",
]
