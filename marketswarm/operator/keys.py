"""The notifier's keys, as they are called on each bus."""

from typing import Final

SILENCES: Final = "notifier:silences"
"""Hash: the id of a silence -> the silence as JSON."""
ASKS: Final = "notifier:asks"
"""Stream of what is asked of the notifier: field `ask` holds an `Ask` as JSON."""
DEAD: Final = "notifier:dead"
"""Stream of what could not be delivered: fields `message`, `channel`, `reason`, `ts`."""
STATE: Final = "notifier:state"
"""Hash: what the notifier must not forget; the same on every bus."""
GROUP: Final = "notifier"
"""The consumer group that reads the log of alerts."""

ASKS_KEPT: Final = 1_000
"""About how many entries the stream of asks is trimmed to."""
ANSWERS_SEC: Final = 3_600
"""How long answers are kept, in seconds."""


def answers_key(ask_id: str) -> str:
    """List of the answers to an ask, each an `Answer` as JSON, as they came."""
    return f"notifier:answers:{ask_id}"


def told_key(event_id: str) -> str:
    """String, for a day: that people were told of an event, or why they are deliberately not."""
    return f"notifier:told:{event_id}"
