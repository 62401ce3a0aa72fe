"""Carry out what operators do on the buses: write silences, and send requests to the notifier.

`marketswarm.operator` defines the values; here they are read and written. Each is kept on every bus, so
that one bus is enough. The command line and the board use this; nothing here knows either of them.
"""

from marketswarm.operator_link.buses import ask_buses
from marketswarm.operator_link.requests import collect_answers, create_request, send_request
from marketswarm.operator_link.silences import (
    MAX_SILENCE_SEC,
    StoredSilences,
    create_silence,
    read_silences,
    write_silence,
)

__all__ = [
    "MAX_SILENCE_SEC",
    "StoredSilences",
    "ask_buses",
    "collect_answers",
    "create_request",
    "create_silence",
    "read_silences",
    "send_request",
    "write_silence",
]
