"""The permissions of agents and people with a special role: monitors, bootstrap, operator, `default`. Pure.

Their keys are those of the contract; each command here is one that their code uses on these keys. Not here:
ordinary services (`services.py`).
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Final

from marketswarm import keys
from marketswarm.access.bus_view import ALL_BEATS, BusView
from marketswarm.access.grant import Grant, escape_pattern
from marketswarm.access.services import (
    DEFAULT_WRITES,
    LEASE_COMMANDS,
    find_written_key,
    find_written_points,
    grant_access_points,
    grant_beats,
    grant_market_operation,
    grant_own_leases,
    grant_requested_remedies,
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
MEDIC_KEYS: Final = (keys.MEDIC_STATE, keys.MEDIC_INCIDENTS, keys.MEDIC_APPROVALS, keys.MEDIC_EVIDENCE)
"""What the medic keeps of outages, for itself and for people."""
MEDIC_DRY_KEYS: Final = tuple(map(keys.dry_run_key, MEDIC_KEYS))
"""The same, of a medic in a dry run."""
HISTORY_KEYS: Final = (keys.BOARD_HISTORY, keys.BOARD_SPANS, keys.board_hours_key("*"))
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
            HEALER,
            view,
            (keys.health_key("*"),),
            (keys.last_beat_key("*"), keys.last_run_key("*")),
            view.beat_patterns(),
        ),
        Grant("hget hset", (keys.HEALER_RELAYED,)),
        Grant(
            "xrange xrevrange xread", (keys.MASSIVE_ALERTS, keys.MARKET_ALERTS, keys.MEDIC_ALERTS), mode="R"
        ),
    )


def grant_sentinel(view: BusView) -> tuple[Grant, ...]:
    """Return the sentinel's grants on one bus.

    It subscribes to the healer's beats and reads its last beat and its roster, reads and appends to the alert
    log, publishes alerts, and checks and sets the delivery marks of messages that it sends to people itself.
    """
    health_keys = tuple(keys.health_key(escape_pattern(name)) for name in view.truth.bus_names())
    declared = (view.beat_pattern(HEALER),) if HEALER in view.truth.services else ()
    healer_channels = tuple(channel for channel in declared if channel is not None)
    return (
        *_grant_monitor(
            SENTINEL,
            view,
            (keys.health_key(HEALER), *health_keys),
            (keys.last_beat_key(HEALER),),
            (*healer_channels, keys.heartbeat_channel(HEALER)),
        ),
        Grant("xrange xrevrange xread", (keys.ALERT_LOG,), mode="R"),
        Grant("hmget", (keys.roster_key(HEALER),), mode="R"),
        Grant("exists", (keys.delivery_key("*"),), mode="R"),
        Grant("set", (keys.delivery_key("*"),), mode="W"),
        Grant("hgetall hset type del", (keys.SENTINEL_DIRECT,)),
    )


def grant_notifier(view: BusView) -> tuple[Grant, ...]:
    """Return the notifier's grants, which are the same on every bus, but for what it reads of the medic.

    It reads the alert log and the operators' requests by consumer group, and stores its lease, state,
    silences, delivery marks, answers and dead letters. On system-redis it reads what the medic works on, and
    whether one leads.
    """
    medic = (
        Grant("type hstrlen hget", (keys.MEDIC_STATE,), mode="R"),
        Grant("exists", (keys.own_lease_key(MEDIC, keys.MEDIC_LEASE),), mode="R"),
    )
    return (
        *(medic if view.bus == SYSTEM else ()),
        Grant("get set del pttl pexpire", (keys.NOTIFIER_LEASE,)),
        Grant("hgetall hget hset hdel del", (keys.NOTIFIER_STATE,)),
        Grant("hgetall hset hdel", (keys.NOTIFIER_SILENCES,)),
        Grant("mget exists set", (keys.delivery_key("*"),)),
        Grant("rpush expire", (keys.answers_key("*"),)),
        Grant("xadd xdel xrange xlen del", (keys.NOTIFIER_DEAD,)),
        Grant(
            "xreadgroup xack xautoclaim xpending xrange xrevrange xinfo|consumers"
            " xgroup|create xgroup|createconsumer xgroup|delconsumer",
            (keys.ALERT_LOG, keys.NOTIFIER_REQUESTS),
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

    It uses its access points, reads what `marketswarm status` reads, the revisions of the truth, and the
    medic's outages with their diagnoses, the rules that hold, and which pages and sources are down. It edits
    silences, sends requests to the notifier and approves proposals of the medic for clients that have a token
    or a signed link, records which links were used, adds what was done to its audit log, keeps the
    announcements and the history, and makes beats of pings. Streams that were ended it deletes. It reads what
    massive knows of its targets, and on market-redis which source is paused, and what each limit leaves. If
    the truth lets it seed, it may write the truth as bootstrap does, but load no code.
    """
    sources = (
        Grant("hmget", (keys.source_breaker_key("*"),), mode="R"),
        Grant("hgetall", (keys.source_account_key("*"),), mode="R"),
    )
    return (
        *grant_access_points(BOARD, view),
        *grant_status_reads(view),
        *_grant_operator_writes(),
        *_grant_pings(view),
        Grant("hget", (keys.BOARD_TOKENS,), mode="R"),
        Grant("xrange xrevrange xread", (keys.MEDIC_INCIDENTS,), mode="R"),
        Grant("type hstrlen hget", (keys.MEDIC_STATE,), mode="R"),
        Grant("hgetall", (keys.MEDIC_OUTAGES, keys.MASSIVE_ROSTER, keys.MARKET_OUTAGES), mode="R"),
        Grant("hset", (keys.MEDIC_APPROVALS,), mode="W"),
        Grant("xadd", (keys.BOARD_AUDIT,), mode="W"),
        Grant("get set del", (keys.board_link_key("*"),)),
        Grant("xadd xrevrange", (keys.BOARD_ANNOUNCEMENTS,)),
        Grant("xrevrange", (keys.TRUTH_HISTORY,), mode="R"),
        Grant("hget hset hdel expireat type del", HISTORY_KEYS),
        Grant("type hstrlen hget", (keys.roster_key(HEALER),), mode="R"),
        *grant_requested_remedies(BOARD, view),
        *_grant_probe_reads(view),
        *(sources if view.bus == MARKET else ()),
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
    # that of older releases, which the one that leads takes from their medics
    former = (keys.lease_key(MEDIC), keys.lease_epoch_key(MEDIC))
    return (
        *grant_status_reads(view),
        *grant_own_leases(MEDIC),
        Grant(LEASE_COMMANDS, former),
        Grant("publish subscribe", channels=(keys.lease_key(MEDIC),)),
        Grant("type del hget hset hdel hstrlen xadd", (*MEDIC_KEYS, *MEDIC_DRY_KEYS)),
        Grant("xrevrange", (keys.MEDIC_INCIDENTS, keys.dry_run_key(keys.MEDIC_INCIDENTS)), mode="R"),
        Grant(
            "hgetall hmget hget hset hdel type del",
            (keys.MEDIC_OUTAGES, keys.dry_run_key(keys.MEDIC_OUTAGES)),
        ),
        Grant("xadd xdel type del", (keys.MEDIC_ALERTS, keys.dry_run_key(keys.MEDIC_ALERTS)), mode="W"),
        Grant("hget", (keys.HEALER_RELAYED,), mode="R"),
        Grant("type hstrlen hget", (keys.NOTIFIER_STATE,), mode="R"),
        Grant("xrevrange", (keys.TRUTH_HISTORY,), mode="R"),
        *_grant_read("type hlen hkeys hstrlen hget", "sources", keys.MARKET_SOURCES, view),
        *_grant_read("exists xinfo|stream xrange", "bars", keys.MARKET_QUARANTINE, view),
        *_grant_ladders(view),
        *_grant_measured_reads(view),
    )


def _grant_ladders(view: BusView) -> Iterator[Grant]:
    """Yield the grants to do what the ladders of the truth say, and to read what came of it.

    The medic may close breakers of `sources` that are open, and pause a source whose series others serve. It
    may find and delete caches (SCAN takes no key, so it shows the names of all keys of the bus), ask archive
    for a backup and services for the remedies that they carry out themselves, seed a truth, and note that in
    the audit log.
    """
    if patterns := list_cleared_caches(view.truth, view.bus):
        yield Grant("scan")
        yield Grant("unlink", tuple(patterns), mode="W")
    if view.bus == find_sources_bus(view.truth):
        ladder, breakers = list_ladder(view.truth, SOURCES), (keys.source_breaker_key("*"),)
        yield Grant("type hlen hkeys hstrlen hget", (keys.MARKET_SOURCES,), mode="R")
        yield Grant("getrange", (keys.PRELOAD_STATUS,), mode="R")
        yield Grant("type hstrlen hget", breakers, mode="R")
        if Remedy.RESUME_SOURCES in ladder:
            yield Grant("hdel", breakers, mode="W")
        if Remedy.PAUSE_SOURCE in ladder:
            yield Grant("hset pexpire", breakers, mode="W")
            yield Grant("type hlen hkeys hstrlen hget", (keys.MARKET_SERIES,), mode="R")
    if view.bus == SYSTEM and ARCHIVE in view.truth.services:
        yield Grant("getrange", (keys.ARCHIVE_BACKUP, keys.ARCHIVE_DATABASE), mode="R")
        if Remedy.REPEAT_BACKUP in list_ladder(view.truth, ARCHIVE):
            yield Grant("set", (keys.ARCHIVE_BACKUP_REQUEST,), mode="W")
    asked = [
        keys_of_request
        for remedy, by_service in REQUEST_KEYS.items()
        for svc, keys_of_request in by_service.items()
        if view.bus == SYSTEM and remedy in list_ladder(view.truth, svc)
    ]
    if asked:
        reports, requests = zip(*asked, strict=True)
        yield Grant("getrange", reports, mode="R")
        yield Grant("set", requests, mode="W")
    if is_in_a_ladder(view.truth, Remedy.ROLL_BACK_TRUTH):
        yield from _grant_seeding(view)
        if view.bus == SYSTEM:
            yield Grant("xadd", (keys.BOARD_AUDIT,), mode="W")


def _grant_probe_reads(view: BusView) -> Iterator[Grant]:
    """Yield the grants to read what massive knows of its targets: results, past, failures and verdicts."""
    streams = _list_probe_streams(view)
    if streams:
        pasts = tuple(keys.probe_past_key(each, "*") for each in streams)
        yield Grant("getrange", (keys.probe_key("*"), *pasts), mode="R")
        yield Grant("lrange", tuple(keys.probe_failures_key(each, "*") for each in streams), mode="R")
    if MASSIVE in view.truth.services and view.bus == view.truth.alert_target(view.alert_channel)[0]:
        yield Grant("type hstrlen hget", (keys.MASSIVE_ROSTER,), mode="R")


def _list_probe_streams(view: BusView) -> list[str]:
    """Return the patterns of the streams of massive's results on this bus."""
    points = find_written_points(MASSIVE, view) if MASSIVE in view.truth.services else ()
    here = (each.key for each in points if each.bus == view.bus)
    return [escape_pattern(key) for key in here if key.rpartition(":")[2] == "probes"]


def _grant_measured_reads(view: BusView) -> Iterator[Grant]:
    """Yield the grants to read massive's probes, and how old the keys of the medic's rules are."""
    if _list_probe_streams(view):
        yield Grant("getrange", (keys.probe_key("*"),), mode="R")
    names = [key for key in list_rule_words(view.truth, "key") if not key.startswith(keys.RESERVED_PREFIXES)]
    named = [find_written_key(view.truth, svc, key) for key in names for svc in view.truth.services]
    here = dict.fromkeys(escape_pattern(each.key) for each in named if each and each.bus == view.bus)
    if here:
        yield Grant("type xinfo|stream getrange", tuple(here), mode="R")


def _grant_read(commands: str, svc: str, key: str, view: BusView) -> Iterator[Grant]:
    """Yield the grant to read what a service of the truth writes on this bus in the place of `key`."""
    points = find_written_points(svc, view) if svc in view.truth.services else ()
    word = key.rpartition(":")[2]
    here = [each.key for each in points if each.bus == view.bus and each.key.rpartition(":")[2] == word]
    if here:
        yield Grant(commands, tuple(map(escape_pattern, here)), mode="R")


def may_board_seed(truth: Truth) -> bool:
    """Return True if a truth lets the board change it: `services.board.settings.seed`."""
    section = truth.services.get(BOARD)
    return section is not None and section.settings.get("seed") is True


def _grant_pings(view: BusView) -> tuple[Grant, ...]:
    """Return the grants to make beats of pings over HTTP, for any service, and to read keys and pings.

    People make and delete ping keys on its pages. The board makes the secret of its checks' UUIDs itself.
    """
    return (
        Grant("hget hgetall hlen hexists hset hdel hincrby", (keys.BOARD_PING_KEYS,)),
        Grant("getrange set type del", (keys.BOARD_CHECKS,)),
        # DEL: an entry with the last possible id ends a stream for all writers, until it is deleted
        Grant("xadd pexpire del", (keys.pings_key("*"),), mode="W"),
        Grant("xrange xrevrange xlen xinfo|stream", (keys.pings_key("*"),), mode="R"),
        Grant("set", (keys.last_beat_key("*"), keys.last_run_key("*")), mode="W"),
        Grant("publish", channels=view.beat_patterns()),
    )


def _grant_operator_writes() -> tuple[Grant, ...]:
    """Grant silences and requests to the notifier, and to delete the stream of these requests."""
    return (
        Grant("hset hdel", (keys.NOTIFIER_SILENCES,), mode="W"),
        # DEL: an entry with the last possible id ends a stream for all writers, until it is deleted
        Grant("xadd del", (keys.NOTIFIER_REQUESTS,), mode="W"),
        Grant("lrange", (keys.answers_key("*"),), mode="R"),
    )


def grant_status_reads(view: BusView) -> tuple[Grant, ...]:
    """Return the grants to read what the commands status, health, topology, alerts and history show."""
    mesh_points = find_written_points(MESH, view) if MESH in view.truth.services else MESH_KEYS
    mesh_keys = tuple(escape_pattern(point.key) for point in mesh_points if point.bus == view.bus)
    return (
        Grant(
            "get getrange mget pttl",
            (keys.health_key("*"), keys.last_beat_key("*"), keys.last_run_key("*"), *mesh_keys),
            mode="R",
        ),
        Grant(
            "hget hgetall",
            (
                keys.roster_key(HEALER),
                keys.jobs_key(HEALER),
                keys.HEALER_LEASE,
                keys.NOTIFIER_SILENCES,
                keys.NOTIFIER_STATE,
            ),
            mode="R",
        ),
        Grant("xrange xrevrange xread xlen", (keys.ALERT_LOG, keys.NOTIFIER_DEAD, *mesh_keys), mode="R"),
        Grant("xinfo|groups", (keys.ALERT_LOG,), mode="R"),
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
        *(keys.monitor_lease_key(listener), keys.roster_key(listener), keys.silence_key(listener)),
        *(keys.heard_key(listener), keys.canary_key(listener), keys.jobs_key(listener)),
    )
    canary = keys.canary_channel(listener, "*")
    return (
        Grant("hmget hget hset hdel hscan incr set type del", own_keys),
        Grant("set del", health_keys, mode="W"),
        Grant("getrange type pttl", beat_keys, mode="R"),
        # TYPE and DEL: a monitor replaces a log that is not a stream. A user with XADD could empty the log by
        # MAXLEN anyway.
        Grant("xadd xdel type del", (keys.ALERT_LOG,), mode="W"),
        # a log that was ended is created again with what the notifier was not given yet
        Grant("xinfo|groups xrevrange", (keys.ALERT_LOG,), mode="R"),
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
    truth_keys = (view.truth_pattern, keys.TRUTH_META, keys.TRUTH_HISTORY)
    return (*_grant_seeding(view), Grant("fcall evalsha", truth_keys))


def _grant_seeding(view: BusView) -> tuple[Grant, ...]:
    """Return the grants to read, write and restore the three keys of the truth, and to publish a change."""
    return (
        Grant(
            "type get hget hmget hgetall pttl xrange xrevrange dump"
            " set del hset pexpire xadd xdel xtrim restore",
            (view.truth_pattern, keys.TRUTH_META, keys.TRUTH_HISTORY),
        ),
        Grant("publish", channels=(keys.TRUTH_CHANGED,)),
    )


def grant_operator(view: BusView) -> tuple[Grant, ...]:
    """Return the grants of the operator, as whom the `marketswarm` commands log in.

    The operator reads what `status` shows, seeds, edits silences and tokens, sends requests to the notifier
    and reads its answers, calls functions on the alert log, publishes and stores beats for any service,
    operates the sources and the quarantine of a market, and reads what massive knows of its targets.
    """
    return (
        *view.grant_truth_reads(),
        *grant_bootstrap(view),
        *grant_status_reads(view),
        Grant("fcall", (keys.ALERT_LOG, keys.NOTIFIER_REQUESTS, keys.pings_key("*"))),
        *_grant_operator_writes(),
        Grant("del", (keys.BOARD_AUDIT,), mode="W"),  # the way out for one that was ended
        # the way out if what is stored there holds every medic up
        Grant("del", (keys.MEDIC_STATE,), mode="W"),
        Grant("hgetall hlen hset hdel", (keys.BOARD_TOKENS,)),
        Grant("hgetall hlen hexists hset hdel hincrby", (keys.BOARD_PING_KEYS,)),
        Grant("set", (keys.BOARD_CHECKS,), mode="W"),
        Grant("xrange xrevrange xlen xinfo|stream", (keys.pings_key("*"),), mode="R"),
        # DEL: an entry with the last possible id ends a stream for all writers, until it is deleted
        Grant("xadd pexpire del", (keys.pings_key("*"),), mode="W"),
        Grant("xrange xrevrange", (keys.BOARD_AUDIT,), mode="R"),
        Grant("type hstrlen hget xrevrange", (*MEDIC_KEYS, *MEDIC_DRY_KEYS), mode="R"),
        Grant("hgetall", (keys.MEDIC_OUTAGES,), mode="R"),
        Grant("hset", (keys.MEDIC_APPROVALS,), mode="W"),
        Grant("fcall", MEDIC_KEYS),
        Grant("publish", channels=view.beat_patterns()),
        Grant("set", (keys.last_beat_key("*"), keys.last_run_key("*")), mode="W"),
        *grant_market_operation(view),
        *_grant_probe_reads(view),
    )


def grant_join(joining: Collection[str], view: BusView) -> tuple[Grant, ...]:
    """Return the grants of the user by which other machines beat for the services in `joining`.

    It reads the truth, and sends what a service sends of itself: beats, results of runs and their output. It
    has none of the grants of work, and can't beat for an agent with a role.
    """
    services = [svc for svc in view.truth.services if svc in joining and svc not in ROLES]
    return (*view.grant_truth_reads(), *(grant for svc in services for grant in grant_beats(svc, view)))


def grant_default_user(view: BusView) -> Grant:
    """Return the grant of `default`: read health, truth and topology, subscribe to alerts and beats.

    ACLs don't check the pattern that the command KEYS is given, so the grant names the three allowed
    patterns.
    """
    patterns = (keys.health_key("*"), view.truth_key, keys.MESH_TOPOLOGY)
    return Grant(
        "ping pubsub get getrange subscribe psubscribe unsubscribe punsubscribe "
        + " ".join(f"keys|{pattern}" for pattern in patterns),
        (keys.health_key("*"), view.truth_pattern, keys.MESH_TOPOLOGY),
        (escape_pattern(view.alerts), ALL_BEATS),
        mode="R",
    )
