"""Name every key and channel on the buses. Pure.

docs/contract.md, section 3, says what each one holds and on which bus it is. A function takes `*` in the
place of a name, too, and then returns the pattern of all such keys. Where the truth may name a stream
otherwise, the keys beside it are named after the stream's own key.
"""

from typing import Final

# The truth: on every bus.
TRUTH_DOC: Final = "truth:doc"
"""The document. TRUTH_REDIS_KEY may name another key."""
TRUTH_META: Final = "truth:meta"
"""Hash: the document's revision, its sha256 and who seeded it."""
TRUTH_HISTORY: Final = "truth:history"
"""Stream: the documents that were seeded last, with the fields of `truth:meta`."""
TRUTH_CHANGED: Final = "truth:changed"
"""Channel: each seeding that changed the document is announced here."""

# Beats: on the bus of the service.
HEARTBEAT_SUFFIX: Final = ":heartbeat"
"""The end of each heartbeat channel that the truth doesn't name otherwise."""

# Alerts, and the keys of the healer and the sentinel.
ALERTS: Final = "healer:alerts"
"""Channel: alert events. The truth or ALERT_CHANNEL may name another."""
ALERT_LOG: Final = "healer:alerts:log"
"""Stream: the same events, to be read later."""
HEALER_LEASE: Final = "healer:lease"
"""Hash: which healer leads."""
HEALER_RELAYED: Final = "healer:relayed"
"""Hash: up to which entry of each stream of services' alerts the healer has copied to the alert log; in
the field `<stream> closed`, up to which one it has closed the misses of a service that left the truth."""
SENTINEL_DIRECT: Final = "sentinel:direct"
"""Hash: the alerts that the sentinel sent itself, because the notifier had not sent them."""

# The notifier: on every bus.
NOTIFIER_GROUP: Final = "notifier"
"""The consumer group that reads the alert log."""
NOTIFIER_LEASE: Final = "notifier:lease"
"""String: which notifier leads."""
NOTIFIER_STATE: Final = "notifier:state"
"""Hash: the notifier's incidents, timers and pending messages; the same on every bus."""
NOTIFIER_SILENCES: Final = "notifier:silences"
"""Hash: a silence's id -> the silence as JSON."""
NOTIFIER_REQUESTS: Final = "notifier:asks"
"""Stream: operators' requests to the notifier. Field `ask` holds an `OperatorRequest` as JSON."""
NOTIFIER_DEAD: Final = "notifier:dead"
"""Stream: messages that could not be delivered, with the fields `message`, `channel`, `reason` and `ts`."""

# The board: on system-redis.
BOARD_TOKENS: Final = "board:tokens"
"""Hash: a token's id -> the token as JSON, with its secret's hash."""
BOARD_AUDIT: Final = "board:audit"
"""Stream: what clients of the board did, and as whom."""
BOARD_ANNOUNCEMENTS: Final = "board:announcements"
"""Stream: what people tell the readers of the public page. Field `entry` holds an `AnnouncementEntry`."""
BOARD_PING_KEYS: Final = "board:pings"
"""Hash: a ping key's id -> the key as JSON, with its secret's hash; `version` -> how often that changed."""
BOARD_CHECKS: Final = "board:checks"
"""String: the board's secret, from which it makes the UUIDs of checks, by which services are pinged."""

# The medic: on system-redis.
MEDIC_STATE: Final = "medic:state"
"""Hash: `epoch` of the lease under which it was written, `fuse`, and for each service with an open outage
`repair:<svc>`, as JSON."""
MEDIC_INCIDENTS: Final = "medic:incidents"
"""Stream: the timelines of all outages. Field `entry` holds a `TimelineEntry`."""
MEDIC_EVIDENCE: Final = "medic:evidence"
"""Stream: what was known of outages before anything was done about them. Field `entry` holds an
`OutageEvidence`."""
MEDIC_APPROVALS: Final = "medic:approvals"
"""Hash: the id of a proposal -> a person's approval as JSON, until the medic has used it."""

MEDIC_ALERTS: Final = "medic:alerts"
"""Stream: events of the medic's rules, which the healer copies to the alert log."""
MEDIC_OUTAGES: Final = "medic:alerts:outages"
"""Hash: `<rule>/<subject>` -> whether the rule holds, and what was published of that, as JSON."""

MEDIC_LEASE: Final = "healing"
"""The name of the medic's own lease: see `own_lease_key`."""
MEDIC_DRY: Final = "dry"
"""The name of the own lease of a medic in a dry run, whose keys are those of `dry_run_key`."""

# The streams and keys of our own services, with the names that they have unless the truth sets others.
MESH_TOPOLOGY: Final = "mesh:topology"
MESH_EVENTS: Final = "mesh:events"
MESH_FLOW: Final = "mesh:flow"
MASSIVE_ALERTS: Final = "massive:alerts"
MASSIVE_ROSTER: Final = "massive:roster"
MASSIVE_PROBES: Final = "massive:probes"
MARKET_BARS: Final = "market:bars"
"""Stream: bars as sources and massive publish them, unchecked."""
MARKET_QUOTES: Final = "market:quotes"
MARKET_OBSERVATIONS: Final = "market:observations"
MARKET_ACTIONS: Final = "market:actions"
"""Stream: splits, dividends and renames of stocks, and those that a source has withdrawn."""
MARKET_DOWNLOADS: Final = "market:downloads"
"""Stream: each request to a source: when, for which series, with which result."""
MARKET_SERIES: Final = "market:series"
"""Hash: a series' id -> its state as JSON: which source serves it, since when, how fresh it is."""
MARKET_SOURCES: Final = "market:sources"
"""Hash: a source's name -> its state as JSON."""
MARKET_QUARANTINE: Final = "market:quarantine"
"""Stream: records that failed a check, with its name."""
MARKET_ALERTS: Final = "market:alerts"
"""Stream: events of sources, which the healer copies to the alert log."""
MARKET_OUTAGES: Final = "market:alerts:outages"
"""Hash: a source's name -> whether it is down, and what was published of that, as JSON."""
SIGNALS_LOG: Final = "signals:log"
"""Stream: the places of symbols in the log of signals, each once it is committed in PostgreSQL."""
SIGNALS_SHADOW: Final = "signals:shadow"
"""String on market-redis, expires: what a revision in the shadow would have decided, a `ShadowReport`."""
SIGNALS_WITNESS: Final = "signals:witness"
"""String on the bus of the log, expires: whether a witness is named and what it says, a `WitnessReport`."""
SIGNALS_WORDINGS: Final = "signals:wordings"
"""Stream on the bus of the log: how a model worded the reasons of signals, after they were published."""
SIGNALS_ALERTS: Final = "signals:alerts"
"""Stream: events of signals, which the healer copies to the alert log."""
SIGNALS_OUTAGES: Final = "signals:alerts:outages"
"""Hash: what signals checks of itself -> whether that fails, and what was published of it, as JSON."""
PRELOAD_STATUS: Final = "preload:status"
"""String: the state of the last run of the gate, as JSON."""
CHECKED_BARS: Final = "bars:bars"
"""Stream: bars of every timeframe that passed the checks, each with its revision."""
SOURCE_BARS: Final = "bars:source_bars"
"""Stream: checked bars that are loaded from one source for itself, beside those of the symbol."""
INDICATORS: Final = "bars:indicators"
"""Stream: the indicators of each such bar."""
FEATURES: Final = "bars:features"
"""Stream: the features of each symbol, for models."""
BARS_POSITIONS: Final = "bars:positions"
"""Hash on the bus of the streams: up to where each instance of bars has stored what it reads."""
BARS_LOST: Final = "bars:lost"
"""Hash on the bus of the streams: by stream what its writers are to publish again, as bars has lost it."""
ARCHIVE_DEAD: Final = "archive:dead"
"""Stream: entries that are not rows, on the bus of their stream, with the reason of each."""
ARCHIVE_POSITIONS: Final = "archive:positions"
"""Hash on the bus of the alert log: up to which entry of each followed stream archive has written rows."""
ARCHIVE_BACKUP: Final = "archive:backup"
"""String on system-redis: what archive says of its backups, a `BackupReport` as JSON."""
ARCHIVE_BACKUP_REQUEST: Final = "archive:backup:request"
"""String on system-redis: a `BackupRequest` of the medic as JSON, until it expires."""
ARCHIVE_DATABASE: Final = "archive:database"
"""String on system-redis, expires: what archive says of its database, a `DatabaseReport` as JSON."""
ARCHIVE_RECONNECT: Final = "archive:reconnect"
"""String on system-redis, expires: what archive says of its new connections, a `RequestReport` as JSON."""
ARCHIVE_RECONNECT_REQUEST: Final = "archive:reconnect:request"
"""String on system-redis: a `ServiceRequest` of the medic as JSON, until it expires."""
BOARD_RECONNECT: Final = "board:reconnect"
"""As `ARCHIVE_RECONNECT`, of the board."""
BOARD_RECONNECT_REQUEST: Final = "board:reconnect:request"
SOURCES_RELOAD: Final = "sources:reload"
"""As `ARCHIVE_RECONNECT`: what sources says of the series that it loaded on request."""
SOURCES_RELOAD_REQUEST: Final = "sources:reload:request"
SOURCES_REFRESH: Final = "sources:refresh"
"""String on system-redis, expires: how the refresh is that a person asked for last, a `RefreshReport`."""
SOURCES_REFRESH_REQUEST: Final = "sources:refresh:request"
"""String on system-redis: a `RefreshRequest` of a person as JSON, until it expires."""
RSS_ITEMS: Final = "rss:items"
VEXY_NOTES: Final = "vexy:notes"
VEXY_DEAD: Final = "vexy:dead"

# The board: on system-redis.
BOARD_HISTORY: Final = "board:history"
"""Hash: how far the alert log is recorded, and when no healer listened in the last hours."""
BOARD_SPANS: Final = "board:history:spans"
"""Hash: of each service, what happened in the last hours, and its last outages."""
SOURCES_REFRESHED: Final = "sources:refreshed"
"""String: when the last refresh of sources that was completed began, in epoch seconds."""

RESERVED_PREFIXES: Final = (
    *("truth:", "beat:", "run:", "pings:", "health:", "members:", "lease:", "lease-epoch:"),
    *("own-lease:", "own-lease-epoch:"),
    *("healer:", "sentinel:", "notifier:", "board:", "medic:"),
)
"""The first words of all keys that belong to the swarm itself and not to one service."""


# Last beats, last runs and latest events of services.


def heartbeat_channel(svc: str) -> str:
    """Return the channel of a service's beats unless the truth names another one."""
    return f"{svc}:heartbeat"


def last_beat_key(svc: str) -> str:
    return f"beat:{svc}"


def last_run_key(svc: str) -> str:
    """Return the key of the result of the last command that `marketswarm exec` ran for a service."""
    return f"run:{svc}"


def pings_key(svc: str) -> str:
    """Return the key of the stream of a service's last pings over HTTP."""
    return f"pings:{svc}"


def health_key(svc: str) -> str:
    """Return the key of the latest event of a service, or of a bus."""
    return f"health:{svc}"


# The keys of a monitor. A `listener` is `healer` or `sentinel`.


def monitor_lease_key(listener: str) -> str:
    """Return the key of the lease that a monitor's scripts check, and of the number of its last publication.

    The sentinel has no lease, only such a number.
    """
    return f"{listener}:lease"


def roster_key(listener: str) -> str:
    """Return the key of a monitor's verdict on each service."""
    return f"{listener}:roster"


def silence_key(listener: str) -> str:
    """Return the key of the seconds that each service has been silent, measured by the monitor's clock."""
    return f"{listener}:silence"


def heard_key(listener: str) -> str:
    """Return the key of the last beat that a monitor has heard from each service."""
    return f"{listener}:heard"


def jobs_key(listener: str) -> str:
    """Return the key of what a monitor knows about the runs of each job."""
    return f"{listener}:jobs"


def canary_key(listener: str) -> str:
    """Return the key that counts the canaries that a monitor has sent."""
    return f"{listener}:canary"


def canary_channel(listener: str, boot: str) -> str:
    """Return the channel of the canaries of one instance of a monitor."""
    return f"{listener}:canary:{boot}"


# A medic in a dry run.


def dry_run_key(key: str) -> str:
    """Return the key in which a medic in a dry run keeps what the real one keeps in `key` (`medic:…`)."""
    kept = key.removeprefix("medic:")
    return f"medic:dry:{kept}"


# The notifier.


def answers_key(request_id: str) -> str:
    """Return the key of the list of the notifier's answers to a request, each an `Answer` as JSON."""
    return f"notifier:answers:{request_id}"


def delivery_key(event_id: str) -> str:
    """Return the key that records for a day that an event was delivered, or why it is held back."""
    return f"notifier:told:{event_id}"


# Instances of one service that share its work.


def members_key(svc: str, work: str | None = None) -> str:
    """Return the key, and channel, of the instances that share a service's work, or one named part of it."""
    return f"members:{svc}" if work is None else f"members:{svc}:{work}"


def lease_key(name: str) -> str:
    """Return the key of a lease that any service may ask for, and whose user may therefore write it.

    The channel of the same name announces that the lease was given back.
    """
    return f"lease:{name}"


def lease_epoch_key(name: str) -> str:
    return f"lease-epoch:{name}"


def own_lease_key(svc: str, name: str) -> str:
    """Return the key of a lease among the processes of one service, which its user alone may write.

    The channel of the same name announces that the lease was given back.
    """
    return f"own-lease:{svc}:{name}"


def own_lease_epoch_key(svc: str, name: str) -> str:
    return f"own-lease-epoch:{svc}:{name}"


# rss_agg: keys beside its stream of items. A `scope` is the hash that the store gives to a feed.


def feed_state_key(items: str, scope: str) -> str:
    """Return the key of a feed's state: its ETag, its last success and its failures."""
    return f"{items}:feed:{scope}"


def feed_seen_key(items: str, scope: str) -> str:
    """Return the key of the ids of a feed's items that are on the stream already."""
    return f"{items}:seen:{scope}"


def feed_scope_key(items: str, claim: str) -> str:
    """Return the key of the scope that a feed's address or name (`claim`, a hash) belongs to."""
    return f"{items}:scope:{claim}"


def items_usable_key(items: str) -> str:
    """Return the key that is written to find out whether the bus accepts writes."""
    return f"{items}:usable"


# massive: results of probes, and keys beside its stream of bars.


def probe_key(target: str) -> str:
    """Return the key of the latest result of a target."""
    return f"probe:{target}"


def probe_past_key(probes: str, target: str) -> str:
    """Return the key of how a target was in the last hour, day and 30 days, beside the stream of results."""
    return f"{probes}:past:{target}"


def probe_failures_key(probes: str, target: str) -> str:
    """Return the key of the list of a target's last failures, beside the stream of results."""
    return f"{probes}:failures:{target}"


def bar_marks_key(bars: str) -> str:
    """Return the key of the minute of each symbol up to which every bar is on the stream."""
    return f"{bars}:marks"


def bars_seen_key(bars: str, symbol: str, day: int) -> str:
    """Return the key of which minutes of a day (days since 1970) are on the stream, and of their digests."""
    return f"{bars}:seen:{symbol}:{day}"


# sources: what all instances share about each source.


def source_account_key(account: str) -> str:
    """Return the key of the requests that were lately sent to a source with one API key."""
    return f"sources:account:{account}"


def source_breaker_key(source: str) -> str:
    return f"sources:breaker:{source}"


def observation_key(series: str) -> str:
    """Return the key of the newest value of an economic series, on market-redis."""
    return f"observations:{series}"


def source_claim_key(series: str) -> str:
    """Return the key that one instance holds while it loads a series."""
    return f"sources:claim:{series}"


def series_records_key(series: str) -> str:
    """Return the key of the published records of a series, each with its source and its digest."""
    return f"sources:records:{series}"


def replay_clock_key(recording: str) -> str:
    """Return the key of the clock of a recording that is played: when it began, and how fast it is."""
    return f"sources:replay:{recording}"


# signals: keys beside its stream of places, and what is kept of the voters that are asked outside, on
# market-redis


def places_published_key(log: str) -> str:
    """Return the key that says up to which place of the log of signals the stream `log` has all places."""
    return f"{log}:published"


def signal_vote_key(voter: str, symbol: str) -> str:
    """Return the key of a voter's last vote about a symbol, which expires with the vote."""
    return f"signals:votes:{voter}:{symbol}"


def voter_account_key(voter: str, endpoint: str) -> str:
    """Return the key of the questions that a voter was lately sent; `endpoint` is the digest of its URL."""
    return f"signals:account:{voter}:{endpoint}"


def voter_budget_key(voter: str) -> str:
    """Return the key that counts the questions to a voter in this hour."""
    return f"signals:budget:{voter}"


def voter_breaker_key(voter: str, endpoint: str) -> str:
    """Return the key of a voter's breaker; `endpoint` is the digest of its URL."""
    return f"signals:breaker:{voter}:{endpoint}"


# bars: what its instances hand over to each other.


def bars_state_key(symbol: str) -> str:
    """Return the key of the state of a symbol: the position in each stream, and bars that are not final."""
    return f"bars:state:{symbol}"


# the market, as the board serves it at once.


def quote_key(symbol: str) -> str:
    return f"quotes:{symbol}"


def chart_key(symbol: str, timeframe: str) -> str:
    """Return the key of the board's last answer for a chart, on market-redis."""
    return f"chart:{symbol}:{timeframe}"


# vexy_ai: keys beside its stream of notes.


def notes_seen_key(notes: str) -> str:
    """Return the key of the ids of the items that have a note already."""
    return f"{notes}:seen"


def note_windows_key(notes: str) -> str:
    """Return the key of the items that wait for the next digest of their symbol."""
    return f"{notes}:windows"


def model_requests_key(notes: str) -> str:
    """Return the key that counts the requests to the language model in this hour."""
    return f"{notes}:llm"


# The board.


def board_link_key(link: str) -> str:
    """Return the key that says when a signed link, by the digest of what it does, was used."""
    return f"board:links:{link}"


def board_hours_key(period: int | str) -> str:
    """Return the key of the hours of all services in one period of 32 days, counted from 1970."""
    return f"board:history:hours:{period}"
