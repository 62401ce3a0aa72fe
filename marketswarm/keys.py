"""Every key and channel name on the buses. Pure.

What each one holds, and on which bus it is, stands in docs/contract.md, section 3. A function here that takes
a name takes `*` as well, for a pattern. Where the truth may name a stream otherwise, the names of the keys
beside it are made from the stream's own key.
"""

from typing import Final

# The truth, on both buses.
TRUTH_DOC: Final = "truth:doc"
"""The document's key unless TRUTH_REDIS_KEY names another."""
TRUTH_META: Final = "truth:meta"
TRUTH_HISTORY: Final = "truth:history"
TRUTH_CHANGED: Final = "truth:changed"

# Beats, on the bus of the service.
HEARTBEAT_SUFFIX: Final = ":heartbeat"
"""Ends each channel of beats that has the name that the contract gives it."""

# Alerts, and what healer and sentinel keep.
ALERTS: Final = "healer:alerts"
"""The channel unless the truth or ALERT_CHANNEL names another."""
ALERT_LOG: Final = "healer:alerts:log"
HEALER_LEASE: Final = "healer:lease"
HEALER_RELAYED: Final = "healer:relayed"
SENTINEL_DIRECT: Final = "sentinel:direct"

# The notifier, on every bus.
NOTIFIER_LEASE: Final = "notifier:lease"
NOTIFIER_STATE: Final = "notifier:state"
NOTIFIER_SILENCES: Final = "notifier:silences"
NOTIFIER_REQUESTS: Final = "notifier:asks"
NOTIFIER_DEAD: Final = "notifier:dead"

# Services.
MESH_TOPOLOGY: Final = "mesh:topology"
MESH_EVENTS: Final = "mesh:events"
MESH_FLOW: Final = "mesh:flow"
MASSIVE_ALERTS: Final = "massive:alerts"
MASSIVE_ROSTER: Final = "massive:roster"
MASSIVE_PROBES: Final = "massive:probes"
MARKET_BARS: Final = "market:bars"
RSS_ITEMS: Final = "rss:items"
VEXY_NOTES: Final = "vexy:notes"
VEXY_DEAD: Final = "vexy:dead"


def heartbeat_channel(svc: str) -> str:
    """Return the channel of a service's beats where the truth names no other."""
    return f"{svc}:heartbeat"


def last_beat_key(svc: str) -> str:
    """Return the key of a service's last beat."""
    return f"beat:{svc}"


def last_run_key(svc: str) -> str:
    """Return the key of how the last run of a command under `marketswarm exec` ended."""
    return f"run:{svc}"


def health_key(svc: str) -> str:
    """Return the key of the latest event of a service."""
    return f"health:{svc}"


def roster_key(listener: str) -> str:
    """Return the key of the verdicts that a listener (`healer`, `sentinel`) stores."""
    return f"{listener}:roster"


def silence_key(listener: str) -> str:
    """Return the key of how long each service has been silent, by the listener's clock."""
    return f"{listener}:silence"


def heard_key(listener: str) -> str:
    """Return the key of the last beats that a listener noted."""
    return f"{listener}:heard"


def canary_key(listener: str) -> str:
    """Return the key that counts a listener's canaries."""
    return f"{listener}:canary"


def canary_channel(listener: str, boot: str) -> str:
    """Return the channel of the canaries of one instance of a listener."""
    return f"{listener}:canary:{boot}"


def answers_key(request_id: str) -> str:
    """Return the key of the notifier's answers to a request."""
    return f"notifier:answers:{request_id}"


def delivery_key(event_id: str) -> str:
    """Return the key that says that people got an event, or why it is held back."""
    return f"notifier:told:{event_id}"


def probe_key(target: str) -> str:
    """Return the key of the latest result of a target of massive."""
    return f"probe:{target}"


def members_key(svc: str, what: str | None = None) -> str:
    """Return the key, and channel, of the instances that share the work of a service."""
    return f"members:{svc}" if what is None else f"members:{svc}:{what}"


def lease_key(name: str) -> str:
    """Return the key of a lease, and the channel on which it is announced that it was given back."""
    return f"lease:{name}"


def lease_epoch_key(name: str) -> str:
    """Return the key of the last epoch of a lease."""
    return f"lease-epoch:{name}"


def feed_state_key(items: str, feed: str) -> str:
    """Return the key of how a feed stands, beside the stream of items."""
    return f"{items}:feed:{feed}"


def feed_seen_key(items: str, feed: str) -> str:
    """Return the key of a feed's items that are on the stream."""
    return f"{items}:seen:{feed}"


def feed_scope_key(items: str, mark: str) -> str:
    """Return the key of which feed an address or a name belongs to."""
    return f"{items}:scope:{mark}"


def items_usable_key(items: str) -> str:
    """Return the key that is written to see whether the bus takes writes."""
    return f"{items}:usable"


def bar_marks_key(bars: str) -> str:
    """Return the key of up to when each symbol's bars are all on the stream."""
    return f"{bars}:marks"


def bars_seen_key(bars: str, symbol: str, day: int) -> str:
    """Return the key of which bars of a symbol and day (since 1970) are on the stream, a bit a minute."""
    return f"{bars}:seen:{symbol}:{day}"


def notes_seen_key(notes: str) -> str:
    """Return the key of the items that were noted already."""
    return f"{notes}:seen"


def note_windows_key(notes: str) -> str:
    """Return the key of what waits for its digest."""
    return f"{notes}:windows"


def model_requests_key(notes: str) -> str:
    """Return the key of how often the language model was asked in this hour."""
    return f"{notes}:llm"
