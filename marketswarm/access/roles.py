"""The permissions of agents and people with a special role: monitors, bootstrap, operator, `default`. Pure.

Their keys are those of the contract; each command here is one that their code uses on these keys. Not here:
ordinary services (`services.py`).
"""

from collections.abc import Callable, Mapping
from typing import Final

from marketswarm.access.bus_view import ALL_BEATS, BusView
from marketswarm.access.grant import Grant, escape_pattern
from marketswarm.access.services import (
    DEFAULT_WRITES,
    find_written_key,
    find_written_points,
    grant_access_points,
    grant_market_operation,
    grant_requested_remedies,
)
from marketswarm.keys import (
    ALERT_LOG,
    ARCHIVE_BACKUP,
    ARCHIVE_BACKUP_REQUEST,
    ARCHIVE_DATABASE,
    BOARD_ANNOUNCEMENTS,
    BOARD_AUDIT,
    BOARD_CHECKS,
    BOARD_HISTORY,
    BOARD_PING_KEYS,
    BOARD_SPANS,
    BOARD_TOKENS,
    HEALER_LEASE,
    HEALER_RELAYED,
    MARKET_ALERTS,
    MARKET_QUARANTINE,
    MARKET_SERIES,
    MARKET_SOURCES,
    MASSIVE_ALERTS,
    MEDIC_ALERTS,
    MEDIC_APPROVALS,
    MEDIC_EVIDENCE,
    MEDIC_INCIDENTS,
    MEDIC_OUTAGES,
    MEDIC_STATE,
    MESH_TOPOLOGY,
    NOTIFIER_DEAD,
    NOTIFIER_LEASE,
    NOTIFIER_REQUESTS,
    NOTIFIER_SILENCES,
    NOTIFIER_STATE,
    PRELOAD_STATUS,
    RESERVED_PREFIXES,
    SENTINEL_DIRECT,
    TRUTH_CHANGED,
    TRUTH_HISTORY,
    TRUTH_META,
    answers_key,
    board_hours_key,
    canary_channel,
    canary_key,
    delivery_key,
    health_key,
    heard_key,
    heartbeat_channel,
    jobs_key,
    last_beat_key,
    last_run_key,
    lease_epoch_key,
    lease_key,
    monitor_lease_key,
    pings_key,
    probe_key,
    roster_key,
    silence_key,
    source_account_key,
    source_breaker_key,
)
from marketswarm.operator.remedies import (
    ARCHIVE,
    REQUEST_KEYS,
    SOURCES,
    Remedy,
    find_sources_bus,
    is_in_a_ladder,
    list_cleared_caches,
    list_ladder,
    list_rule_words,
)
from marketswarm.truth import HEALER, MARKET, SYSTEM, AccessPoint, Truth
from marketswarm.truth.flows import build_flows

SENTINEL: Final = "sentinel"
NOTIFIER: Final = "notifier"
MESH: Final = "mesh"
BOARD: Final = "board"
MEDIC: Final = "medic"
MASSIVE: Final = "massive"
MEDIC_KEYS: Final = (MEDIC_STATE, MEDIC_INCIDENTS, MEDIC_APPROVALS, MEDIC_EVIDENCE)
"""What the medic keeps of outages, for itself and for people."""
HISTORY_KEYS: Final = (BOARD_HISTORY, BOARD_SPANS, board_hours_key("*"))
"""The keys in which the board keeps the history of the fleet."""
MESH_KEYS: Final = tuple(AccessPoint(bus=bus, key=key) for bus, key in DEFAULT_WRITES[MESH])
"""The keys of mesh, readable even without a mesh, so that reading a missing key does not fail with NOPERM."""
LOAD_COMMANDS: Final = "function|list function|load function|delete script|load"
"""Commands that load, list or delete code: only users that seed have them."""
CHECK_COMMANDS: Final = "acl|dryrun"
"""The command by which seeding asks what the healer may do, before the truth is published."""
OPERATOR_COMMANDS: Final = (
    f"info pubsub|numsub acl|load script|kill function|kill {LOAD_COMMANDS} {CHECK_COMMANDS}"
)
"""Commands without keys that the operator has besides those of every service."""


def grant_healer(view: BusView) -> tuple[Grant, ...]:
    """Return the healer's grants on one bus.

    It subscribes to all beats, reads the last ones and the last runs, publishes verdicts, and copies the
    alerts of services to the alert log.
    """
    return (
        *_grant_monitor(
            HEALER, view, (health_key("*"),), (last_beat_key("*"), last_run_key("*")), view.beat_patterns()
        ),
        Grant("hget hset", (HEALER_RELAYED,)),
        Grant("xrange xrevrange xread", (MASSIVE_ALERTS, MARKET_ALERTS, MEDIC_ALERTS), mode="R"),
    )


def grant_sentinel(view: BusView) -> tuple[Grant, ...]:
    """Return the sentinel's grants on one bus.

    It subscribes to the healer's beats and reads its last beat and its roster, reads and appends to the alert
    log, publishes alerts, and checks and sets the delivery marks of messages that it sends to people itself.
    """
    health_keys = tuple(health_key(escape_pattern(name)) for name in view.truth.bus_names())
    declared = (view.beat_pattern(HEALER),) if HEALER in view.truth.services else ()
    healer_channels = tuple(channel for channel in declared if channel is not None)
    return (
        *_grant_monitor(
            SENTINEL,
            view,
            (health_key(HEALER), *health_keys),
            (last_beat_key(HEALER),),
            (*healer_channels, heartbeat_channel(HEALER)),
        ),
        Grant("xrange xrevrange xread", (ALERT_LOG,), mode="R"),
        Grant("hmget", (roster_key(HEALER),), mode="R"),
        Grant("exists", (delivery_key("*"),), mode="R"),
        Grant("set", (delivery_key("*"),), mode="W"),
        Grant("hgetall hset type del", (SENTINEL_DIRECT,)),
    )


def grant_notifier(view: BusView) -> tuple[Grant, ...]:
    """Return the notifier's grants, which are the same on every bus, but for what it reads of the medic.

    It reads the alert log and the operators' requests by consumer group, and stores its lease, state,
    silences, delivery marks, answers and dead letters. On system-redis it reads what the medic works on, and
    whether one leads.
    """
    medic = (
        Grant("type hstrlen hget", (MEDIC_STATE,), mode="R"),
        Grant("exists", (lease_key(MEDIC),), mode="R"),
    )
    return (
        *(medic if view.bus == SYSTEM else ()),
        Grant("get set del pttl pexpire", (NOTIFIER_LEASE,)),
        Grant("hgetall hget hset hdel del", (NOTIFIER_STATE,)),
        Grant("hgetall hset hdel", (NOTIFIER_SILENCES,)),
        Grant("mget exists set", (delivery_key("*"),)),
        Grant("rpush expire", (answers_key("*"),)),
        Grant("xadd xdel xrange xlen del", (NOTIFIER_DEAD,)),
        Grant(
            "xreadgroup xack xautoclaim xpending xrange xrevrange xinfo|consumers"
            " xgroup|create xgroup|createconsumer xgroup|delconsumer",
            (ALERT_LOG, NOTIFIER_REQUESTS),
        ),
    )


def grant_mesh(view: BusView) -> tuple[Grant, ...]:
    """Return the grants of mesh on one bus.

    It uses its access points, subscribes to all beats, and measures each key without a `*` that the truth
    names on this bus.
    """
    streams = [key.name for key in build_flows(view.truth).keys if key.bus == view.bus and not key.is_pattern]
    measured = Grant(
        "type memory|usage xlen xinfo|stream xinfo|groups xpending xrange",
        tuple(map(escape_pattern, streams)),
        mode="R",
    )
    return (
        *grant_access_points(MESH, view),
        Grant("subscribe psubscribe", channels=view.beat_patterns()),
        *((measured,) if streams else ()),
    )


def grant_board(view: BusView) -> tuple[Grant, ...]:
    """Return the board's grants on one bus.

    It uses its access points, reads what `marketswarm status` reads, the revisions of the truth and the
    medic's outages with their diagnoses, edits silences, sends requests to the notifier and approves
    proposals of the medic for clients that have a token, adds what they did to its audit log, keeps the
    announcements and the history, and makes beats of pings. If the truth lets it seed, it may write the truth
    as bootstrap does, but load no code.
    """
    return (
        *grant_access_points(BOARD, view),
        *grant_status_reads(view),
        *_grant_operator_writes(),
        *_grant_pings(view),
        Grant("hget", (BOARD_TOKENS,), mode="R"),
        Grant("xrange xrevrange xread", (MEDIC_INCIDENTS,), mode="R"),
        Grant("type hstrlen hget", (MEDIC_STATE,), mode="R"),
        Grant("hset", (MEDIC_APPROVALS,), mode="W"),
        Grant("xadd", (BOARD_AUDIT,), mode="W"),
        Grant("xadd xrevrange", (BOARD_ANNOUNCEMENTS,)),
        Grant("xrevrange", (TRUTH_HISTORY,), mode="R"),
        Grant("hget hset hdel expireat type del", HISTORY_KEYS),
        Grant("type hstrlen hget", (roster_key(HEALER),), mode="R"),
        *grant_requested_remedies(BOARD, view),
        *(_grant_source_reads() if view.bus == MARKET else ()),
        *(_grant_seeding(view) if may_board_seed(view.truth) else ()),
    )


def grant_medic(view: BusView) -> tuple[Grant, ...]:
    """Return the grants of the medic on one bus.

    It reads what `marketswarm status` reads, holds its lease, stores its state and the timelines of outages,
    reads these, and publishes the rules that hold. Of the alert log it may read entries, and nothing of the
    notifier's group; of the market, the states of sources and gate, and how many entries the quarantine has;
    the results of probes; of the keys that its rules name, when they were written; and the revisions of the
    truth, for the bundle of a diagnosis. It may delete a cache, close breakers of sources, pause sources, ask
    for a backup or for new connections to PostgreSQL, and put an earlier truth back in force, each where a
    ladder of the truth has it do so.
    """
    lease = (lease_key(MEDIC), lease_epoch_key(MEDIC))
    return (
        *grant_status_reads(view),
        Grant("type get set del exists pttl pexpire hset hmget", lease),
        Grant("publish subscribe", channels=(lease_key(MEDIC),)),
        Grant("type del hget hset hdel hstrlen xadd", MEDIC_KEYS),
        Grant("xrevrange", (MEDIC_INCIDENTS,), mode="R"),
        Grant("hgetall hmget hget hset hdel type del", (MEDIC_OUTAGES,)),
        Grant("xadd xdel type del", (MEDIC_ALERTS,), mode="W"),
        Grant("hget", (HEALER_RELAYED,), mode="R"),
        Grant("type hstrlen hget", (NOTIFIER_STATE,), mode="R"),
        Grant("xrevrange", (TRUTH_HISTORY,), mode="R"),
        *_grant_read("type hlen hkeys hstrlen hget", "sources", MARKET_SOURCES, view),
        *_grant_read("exists xinfo|stream xrange", "bars", MARKET_QUARANTINE, view),
        *_grant_cache_clearing(view),
        *_grant_source_steering(view),
        *_grant_archive_reports(view),
        *_grant_requests(view),
        *_grant_rollback(view),
        *_grant_probe_reads(view),
        *_grant_age_reads(view),
    )


def _grant_source_steering(view: BusView) -> tuple[Grant, ...]:
    """Return the grants to read the breakers of `sources` and the gate, and to do what its ladder says.

    It may close those that are open, and pause a source whose series others serve.
    """
    if view.bus != find_sources_bus(view.truth):
        return ()
    ladder, breakers = list_ladder(view.truth, SOURCES), (source_breaker_key("*"),)
    resumes = Grant("hdel", breakers, mode="W")
    pauses = (
        Grant("hset pexpire", breakers, mode="W"),
        Grant("type hlen hkeys hstrlen hget", (MARKET_SERIES,), mode="R"),
    )
    return (
        Grant("type hlen hkeys hstrlen hget", (MARKET_SOURCES,), mode="R"),
        Grant("getrange", (PRELOAD_STATUS,), mode="R"),
        Grant("type hstrlen hget", breakers, mode="R"),
        *((resumes,) if Remedy.RESUME_SOURCES in ladder else ()),
        *(pauses if Remedy.PAUSE_SOURCE in ladder else ()),
    )


def _grant_rollback(view: BusView) -> tuple[Grant, ...]:
    """Return the grants to seed a truth, and to note that in the audit log, if a ladder does so."""
    if not is_in_a_ladder(view.truth, Remedy.ROLL_BACK_TRUTH):
        return ()
    audit = (Grant("xadd", (BOARD_AUDIT,), mode="W"),) if view.bus == SYSTEM else ()
    return (*_grant_seeding(view), *audit)


def _grant_archive_reports(view: BusView) -> tuple[Grant, ...]:
    """Return the grants to read how the backups and the database of archive are.

    If a ladder asks for a backup, the medic may do that.
    """
    if view.bus != SYSTEM or ARCHIVE not in view.truth.services:
        return ()
    ladder = list_ladder(view.truth, ARCHIVE)
    return (
        Grant("getrange", (ARCHIVE_BACKUP, ARCHIVE_DATABASE), mode="R"),
        *((Grant("set", (ARCHIVE_BACKUP_REQUEST,), mode="W"),) if Remedy.REPEAT_BACKUP in ladder else ()),
    )


def _grant_requests(view: BusView) -> tuple[Grant, ...]:
    """Return the grants to ask services for the remedies that they carry out themselves, by their ladders."""
    asked = [
        keys
        for remedy, keys_by_service in REQUEST_KEYS.items()
        for svc, keys in keys_by_service.items()
        if view.bus == SYSTEM and remedy in list_ladder(view.truth, svc)
    ]
    if not asked:
        return ()
    reports, requests = zip(*asked, strict=True)
    return (Grant("getrange", reports, mode="R"), Grant("set", requests, mode="W"))


def _grant_cache_clearing(view: BusView) -> tuple[Grant, ...]:
    """Return the grants to find and delete the caches that ladders of the medic name on this bus.

    SCAN takes no key, so it shows the names of all keys of the bus.
    """
    patterns = list_cleared_caches(view.truth, view.bus)
    if not patterns:
        return ()
    return (Grant("scan"), Grant("unlink", tuple(patterns), mode="W"))


def _grant_probe_reads(view: BusView) -> tuple[Grant, ...]:
    """Return the grant to read the results of massive's probes, on the bus of their stream."""
    points = find_written_points(MASSIVE, view) if MASSIVE in view.truth.services else ()
    is_here = any(each.bus == view.bus and each.key.rpartition(":")[2] == "probes" for each in points)
    return (Grant("getrange", (probe_key("*"),), mode="R"),) if is_here else ()


def _grant_age_reads(view: BusView) -> tuple[Grant, ...]:
    """Return the grant to read how old those keys on this bus are that the medic's rules name."""
    keys = [key for key in list_rule_words(view.truth, "key") if not key.startswith(RESERVED_PREFIXES)]
    points = [find_written_key(view.truth, svc, key) for key in keys for svc in view.truth.services]
    here = dict.fromkeys(escape_pattern(each.key) for each in points if each and each.bus == view.bus)
    return (Grant("type xinfo|stream getrange", tuple(here), mode="R"),) if here else ()


def _grant_read(commands: str, svc: str, key: str, view: BusView) -> tuple[Grant, ...]:
    """Return the grant to read what a service of the truth writes on this bus in the place of `key`."""
    points = find_written_points(svc, view) if svc in view.truth.services else ()
    word = key.rpartition(":")[2]
    keys = [point.key for point in points if point.bus == view.bus and point.key.rpartition(":")[2] == word]
    return (Grant(commands, tuple(map(escape_pattern, keys)), mode="R"),) if keys else ()


def may_board_seed(truth: Truth) -> bool:
    """Return True if a truth lets the board change it: `services.board.settings.seed`."""
    section = truth.services.get(BOARD)
    return section is not None and section.settings.get("seed") is True


def _grant_source_reads() -> tuple[Grant, ...]:
    """Return the grants to read what the sources share: which one is paused, and what each limit leaves."""
    return (
        Grant("hmget", (source_breaker_key("*"),), mode="R"),
        Grant("hgetall", (source_account_key("*"),), mode="R"),
    )


def _grant_pings(view: BusView) -> tuple[Grant, ...]:
    """Return the grants to make beats of pings over HTTP, for any service, and to read keys and pings.

    The board makes the secret of its checks' UUIDs itself.
    """
    return (
        Grant("hget hgetall", (BOARD_PING_KEYS,), mode="R"),
        Grant("getrange set type del", (BOARD_CHECKS,)),
        Grant("xadd pexpire", (pings_key("*"),), mode="W"),
        Grant("xrange xrevrange xlen xinfo|stream", (pings_key("*"),), mode="R"),
        Grant("set", (last_beat_key("*"), last_run_key("*")), mode="W"),
        Grant("publish", channels=view.beat_patterns()),
    )


def _grant_operator_writes() -> tuple[Grant, ...]:
    return (
        Grant("hset hdel", (NOTIFIER_SILENCES,), mode="W"),
        Grant("xadd", (NOTIFIER_REQUESTS,), mode="W"),
        Grant("lrange", (answers_key("*"),), mode="R"),
    )


def grant_status_reads(view: BusView) -> tuple[Grant, ...]:
    """Return the grants to read what the commands status, health, topology, alerts and history show."""
    mesh_points = find_written_points(MESH, view) if MESH in view.truth.services else MESH_KEYS
    mesh_keys = tuple(escape_pattern(point.key) for point in mesh_points if point.bus == view.bus)
    return (
        Grant(
            "get getrange mget pttl",
            (health_key("*"), last_beat_key("*"), last_run_key("*"), *mesh_keys),
            mode="R",
        ),
        Grant(
            "hget hgetall",
            (roster_key(HEALER), jobs_key(HEALER), HEALER_LEASE, NOTIFIER_SILENCES, NOTIFIER_STATE),
            mode="R",
        ),
        Grant("xrange xrevrange xread xlen", (ALERT_LOG, NOTIFIER_DEAD, *mesh_keys), mode="R"),
        Grant("xinfo|groups", (ALERT_LOG,), mode="R"),
        Grant("type hkeys hstrlen hmget", HISTORY_KEYS, mode="R"),
        Grant("subscribe psubscribe", channels=(escape_pattern(view.alerts), *view.beat_patterns())),
    )


def _grant_monitor(
    listener: str,
    view: BusView,
    health_keys: tuple[str, ...],
    beat_keys: tuple[str, ...],
    channels: tuple[str, ...],
) -> tuple[Grant, ...]:
    """Return the grants that healer and sentinel share: their state, their canary, the alert log.

    Args:
        health_keys: patterns of the health keys that it writes and deletes.
        beat_keys: patterns of the keys of last beats, and of last runs, that it reads.
        channels: patterns of the channels that it subscribes to besides its canary's.
    """
    own_keys = (
        *(monitor_lease_key(listener), roster_key(listener), silence_key(listener)),
        *(heard_key(listener), canary_key(listener), jobs_key(listener)),
    )
    canary = canary_channel(listener, "*")
    return (
        Grant("hmget hget hset hdel hscan incr set type del", own_keys),
        Grant("set del", health_keys, mode="W"),
        Grant("getrange type pttl", beat_keys, mode="R"),
        # TYPE and DEL: a monitor replaces a log that is not a stream. A user with XADD could empty the log by
        # MAXLEN anyway.
        Grant("xadd xdel type del", (ALERT_LOG,), mode="W"),
        Grant("xinfo|groups", (ALERT_LOG,), mode="R"),
        Grant("publish", channels=(escape_pattern(view.alerts), canary)),
        Grant("subscribe", channels=tuple(dict.fromkeys((canary, *channels)))),
    )


ROLES: Final[Mapping[str, Callable[[BusView], tuple[Grant, ...]]]] = {
    HEALER: grant_healer,
    SENTINEL: grant_sentinel,
    NOTIFIER: grant_notifier,
    MESH: grant_mesh,
    BOARD: grant_board,
    MEDIC: grant_medic,
}
"""By service, the function that returns its grants in place of those of an ordinary service."""


def grant_bootstrap(view: BusView) -> tuple[Grant, ...]:
    """Return the grants to seed one bus.

    With them, bootstrap reads, writes and restores the three keys of the truth, calls the seeding scripts on
    them, and publishes on `truth:changed`.
    """
    keys = (view.truth_pattern, TRUTH_META, TRUTH_HISTORY)
    return (*_grant_seeding(view), Grant("fcall evalsha", keys))


def _grant_seeding(view: BusView) -> tuple[Grant, ...]:
    """Return the grants to read, write and restore the three keys of the truth, and to publish a change."""
    keys = (view.truth_pattern, TRUTH_META, TRUTH_HISTORY)
    return (
        Grant(
            "type get hget hmget hgetall pttl xrange xrevrange dump"
            " set del hset pexpire xadd xdel xtrim restore",
            keys,
        ),
        Grant("publish", channels=(TRUTH_CHANGED,)),
    )


def grant_operator(view: BusView) -> tuple[Grant, ...]:
    """Return the grants of the operator, as whom the `marketswarm` commands log in.

    The operator reads what `status` shows, seeds, edits silences and tokens, sends requests to the notifier
    and reads its answers, calls functions on the alert log, publishes and stores beats for any service, and
    operates the sources and the quarantine of a market.
    """
    return (
        *view.grant_truth_reads(),
        *grant_bootstrap(view),
        *grant_status_reads(view),
        Grant("fcall", (ALERT_LOG,)),
        *_grant_operator_writes(),
        # an entry with the last possible id ends a stream for all writers, until it is deleted
        Grant("del", (NOTIFIER_REQUESTS, BOARD_AUDIT), mode="W"),
        Grant("hgetall hlen hset hdel", (BOARD_TOKENS,)),
        Grant("hgetall hlen hexists hset hdel hincrby", (BOARD_PING_KEYS,)),
        Grant("set", (BOARD_CHECKS,), mode="W"),
        Grant("xrange xrevrange xlen xinfo|stream", (pings_key("*"),), mode="R"),
        Grant("xrange xrevrange", (BOARD_AUDIT,), mode="R"),
        Grant("type hstrlen hget xrevrange", MEDIC_KEYS, mode="R"),
        Grant("hgetall", (MEDIC_OUTAGES,), mode="R"),
        Grant("hset", (MEDIC_APPROVALS,), mode="W"),
        Grant("fcall", MEDIC_KEYS),
        Grant("publish", channels=view.beat_patterns()),
        Grant("set", (last_beat_key("*"), last_run_key("*")), mode="W"),
        *grant_market_operation(view),
    )


def grant_default_user(view: BusView) -> Grant:
    """Return the grant of `default`: read health, truth and topology, subscribe to alerts and beats.

    ACLs don't check the pattern that the command KEYS is given, so the grant names the three allowed
    patterns.
    """
    keys = (health_key("*"), view.truth_pattern, MESH_TOPOLOGY)
    patterns = (health_key("*"), view.truth_key, MESH_TOPOLOGY)
    return Grant(
        "ping pubsub get getrange subscribe psubscribe unsubscribe punsubscribe "
        + " ".join(f"keys|{pattern}" for pattern in patterns),
        keys,
        (escape_pattern(view.alerts), ALL_BEATS),
        mode="R",
    )
