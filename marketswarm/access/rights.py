"""Who may do what on a bus: one table of users, commands, keys and channels. Pure.

A row of the table grants users some commands on keys or channels, as a selector of an ACL file does:

    users | commands | mode and names | conditions

- a user is a service, a login of people, or one of the groups ANY, WORKER and JOINED
- a word of capital letters is a list of commands, which COMMANDS has
- the mode `R`, `W` or `RW` says that the commands may read keys, write them, or both; `&` that the names are
  those of channels; `-` that the commands take no key
- a word in braces stands for names by the truth, which WORDS lists: `{svc}` for the user's service. So does
  `{bars/market:quarantine}`, for what bars writes on this bus in the place of that key; a `*` behind the key
  keeps those in its names as wildcards
- a row counts where all its conditions hold: those of CONDITIONS; names in braces, if they stand for any; and
  `sources+pause_source`, if the ladder of sources in the truth has that remedy
- a row of keys or channels whose names stand for nothing grants nothing

The keys are those of the contract; each command here is one that the code of its users uses on these keys.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Final, NamedTuple

from marketswarm import keys
from marketswarm.access import services
from marketswarm.access.grant import Grant, Mode, escape_pattern
from marketswarm.access.services import ALL_BEATS, BusView
from marketswarm.operator import remedies
from marketswarm.operator.remedies import ARCHIVE, BARS, BOARD, Remedy, list_ladder
from marketswarm.truth import HEALER, MARKET, SYSTEM
from marketswarm.truth.flows import build_flows

ANY: Final = "<any>"
"""Each service of the truth."""
WORKER: Final = "<worker>"
"""Each service that is not one of ROLES."""
JOINED: Final = "<joined>"
"""The user `join`, once for each service of other machines."""
ROLES: Final = ("healer", "sentinel", "notifier", "mesh", "board", "medic")
"""The services that have none of a worker's rights but those of their own rows."""

TABLE: Final = """
# -- what each has, and seeding

bootstrap | ping time select LOAD acl|dryrun | -
<any> join operator | ping time select multi exec unsubscribe punsubscribe | -
<any> join operator | get strlen hmget | R {truth} truth:meta
<any> join operator | subscribe | & truth:changed
<any> <joined> | publish | & {own-beats} | beats
<any> <joined> | set | W beat:{svc} run:{svc} | beats
# DEL, as in other rows: an entry with the last possible id ends a stream for all writers, until it is deleted
<any> <joined> | xadd pexpire del | W pings:{svc} | beats
# the function that deletes it
<any> <joined> | fcall | RW pings:{svc} | beats
bootstrap operator | SEED | RW {truth} truth:meta truth:history
bootstrap operator | publish | & truth:changed
bootstrap operator | fcall evalsha | RW {truth} truth:meta truth:history
board | acl|dryrun | - | board-seeds
board | SEED | RW {truth} truth:meta truth:history | board-seeds
board | publish | & truth:changed | board-seeds

# -- a worker: its share of the work, its leases, its access points

<worker> | type del pexpire zadd zrem zrange zremrangebyscore | RW members:{svc} members:{svc}:*
<worker> medic | LEASE | RW own-lease:{svc}:* own-lease-epoch:{svc}:*
<worker> medic | publish subscribe | & own-lease:{svc}:*
# those of all services, which only services of one's own ask for: each may break them
<worker> | LEASE | RW lease:* lease-epoch:*
<worker> | publish subscribe | & members:{svc} members:{svc}:* lease:*
<worker> mesh board | publish | & {published}
# XGROUP DESTROY: a group without readers can hold up the writer of a stream
<worker> mesh board | DATA xgroup|destroy | RW {data}
<worker> mesh board | GROUP | RW {state}
<worker> mesh board | xadd xdel | W {written-log}
<worker> mesh board | subscribe psubscribe | & {subscribed}
<worker> mesh board | DATA | R {read}
<worker> mesh board | GROUP | RW {read-by-group}
# the medic's requests to a service, and its reports
archive board | getrange | R {svc}:reconnect:request | system-redis
archive board | set | W {svc}:reconnect | system-redis
sources | getrange | R sources:reload:request sources:refresh:request | system-redis
sources | set | W sources:reload sources:refresh | system-redis
sources bars signals | DATA | RW {svc}:* | market-redis
# up to where bars has read: they trim no further
sources massive | hgetall | R bars:positions | market-redis
# the newest value of each economic series
sources | set | W observations:* | {sources/market:bars}
# what bars has lost unread, which they publish again
bars | hkeys hgetall | R {unchecked-bars}:keep {unchecked-bars}:settled
sources massive | type hstrlen hget | R bars:lost | market-redis
# up to where the healer has copied their alerts, and archive has read: they trim no further
massive | hget hgetall | R healer:relayed | {massive/massive:alerts}
sources | hget hgetall | R healer:relayed | {sources/market:alerts}
signals | hget hgetall | R healer:relayed | {signals/signals:alerts}
healer sentinel medic | hgetall | R archive:positions
archive | hget hset | RW archive:positions | followed
archive | getrange | R archive:backup archive:backup:request | system-redis
archive | set | W archive:backup archive:database | system-redis

# -- monitors

healer sentinel | hmget hget hset hdel hscan incr set type del | RW {svc}:lease {svc}:roster {svc}:silence\
 {svc}:heard {svc}:canary {svc}:jobs
healer | set del | W health:*
sentinel | set del | W health:healer health:{buses}
healer | getrange type pttl | R beat:* run:*
sentinel | getrange type pttl | R beat:healer
# TYPE and DEL: a monitor replaces a log that is not a stream. A user with XADD could empty the log by MAXLEN
# anyway.
healer sentinel | xadd xdel type del | W healer:alerts:log
# a log that was ended is created again with what the notifier was not given yet
healer sentinel | xinfo|groups xinfo|stream xrevrange | R healer:alerts:log
healer sentinel | publish | & {alerts} {svc}:canary:*
healer | subscribe | & {svc}:canary:* {all-beats}
sentinel | subscribe | & {svc}:canary:* {healer-beats}
healer | hget hset | RW healer:relayed
healer | xrange xrevrange xread | R massive:alerts market:alerts medic:alerts signals:alerts
sentinel | xrange xrevrange xread | R healer:alerts:log
sentinel | hmget | R healer:roster
sentinel | exists | R notifier:told:*
sentinel | set | W notifier:told:*
sentinel | hgetall hset type del | RW sentinel:direct

notifier | get set del pttl pexpire | RW notifier:lease
notifier | hgetall hget hset hdel del | RW notifier:state
notifier | hgetall hset hdel | RW notifier:silences
notifier | mget exists set | RW notifier:told:*
notifier | rpush expire | RW notifier:answers:*
notifier | xadd xdel xrange xlen del | RW notifier:dead
notifier | xreadgroup xack xautoclaim xpending xrange xrevrange xinfo|consumers\
 xgroup|create xgroup|createconsumer xgroup|delconsumer | RW healer:alerts:log notifier:asks
notifier | type hstrlen hget | R medic:state | system-redis
notifier | exists | R own-lease:medic:healing | system-redis

mesh | pubsub|numsub | -
mesh | subscribe psubscribe | & {all-beats}
mesh | type memory|usage xlen xinfo|stream xinfo|groups xpending xrange | R {measured}

# -- people and the board: what the commands status, health, topology, alerts and history show

board medic operator | get getrange mget pttl | R health:* beat:* run:* {mesh}
board medic operator | hget hgetall | R healer:roster healer:jobs healer:lease\
 notifier:silences notifier:state
board medic operator | xrange xrevrange xread xlen | R healer:alerts:log notifier:dead {mesh}
board medic operator | xinfo|groups | R healer:alerts:log
board medic operator | type hkeys hstrlen hmget | R board:history board:history:spans board:history:hours:*
board medic operator | subscribe psubscribe | & {alerts} {all-beats}

# silences, requests to the notifier, proposals of the medic, beats and pings of any service
board operator | hset hdel | W notifier:silences
board operator | xadd del | W notifier:asks
board operator | lrange | R notifier:answers:*
board operator | hset | W medic:approvals
board operator | publish | & {all-beats}
board operator | set | W beat:* run:*
board operator | xadd pexpire del | W pings:*
board operator | xrange xrevrange xlen xinfo|stream | R pings:*

board | hget | R board:tokens
board | hget hgetall hlen hexists hset hdel hincrby | RW board:pings
board | getrange set type del | RW board:checks
board | xadd | W board:audit
board | get set del | RW board:links:*
board | xadd xrevrange | RW board:announcements
board | hget hset hdel expireat type del | RW board:history board:history:spans board:history:hours:*
board | xrevrange | R truth:history
board | type hstrlen hget | R healer:roster
board | type hstrlen hget | R medic:state
board | xrange xrevrange xread | R medic:incidents
board | hgetall | R medic:alerts:outages massive:roster market:alerts:outages signals:alerts:outages
board | hmget | R sources:breaker:* | market-redis
board | hgetall | R sources:account:* | market-redis
# what is kept of answers, to count it and to drop it; SCAN shows the names of all keys of the bus
board | scan | - | market-redis
board | mget strlen pttl unlink | RW quotes:* chart:*:* | market-redis
board | get | R sources:refreshed | sources
board operator | set | W sources:refresh:request | system-redis
board operator | getrange | R sources:refresh | system-redis

operator | info pubsub|numsub acl|load script|kill function|kill LOAD acl|dryrun | -
operator | fcall | RW healer:alerts:log notifier:asks pings:*
operator | fcall | RW medic:state medic:incidents medic:approvals medic:evidence
# the way out for a stream that was ended, and if what is stored there holds every medic up
operator | del | W board:audit
operator | del | W medic:state
operator | xrange xrevrange | R board:audit
operator | hgetall hlen hset hdel | RW board:tokens
operator | hgetall hlen hexists hset hdel hincrby | RW board:pings
operator | set | W board:checks
operator | getrange | R archive:backup archive:database | system-redis
operator | hgetall | R medic:alerts:outages
operator | type hstrlen hget xrevrange | R medic:state medic:incidents medic:approvals medic:evidence\
 medic:dry:state medic:dry:incidents medic:dry:approvals medic:dry:evidence

# -- the market: what massive knows of its targets, `source`, `market quarantine` and `archive refused`

board operator | getrange | R probe:* {massive/massive:probes}:past:* | {massive/massive:probes}
board operator | lrange | R {massive/massive:probes}:failures:*
board | xrevrange | R {vexy_ai/vexy:notes}
board operator | type xrange xrevrange xread xlen xinfo|stream | R {signals/signals:log}
operator | type xrange xrevrange xread xlen xinfo|stream | R signals:wordings | {signals/signals:log}
board operator | type getrange | R signals:shadow signals:witness | {signals/signals:log}
board operator | type hstrlen hget | R massive:roster | massive alerts
operator | type get mget strlen pttl | R quotes:* chart:*:* observations:* | {sources/market:bars}
operator | type get hget hmget hgetall | R market:sources market:series preload:status | {sources/market:bars}
operator | hmget hset hdel del pexpire persist fcall | RW sources:breaker:* | {sources/market:bars}
operator | xrange xrevrange xlen xdel | RW {bars/market:quarantine*}
operator | xadd del | W {unchecked-bars} | {bars/market:quarantine}
operator | fcall | RW {bars/market:quarantine*} {unchecked-bars} | {bars/market:quarantine}
operator | xrevrange | R {archive/archive:dead*}
operator | fcall | RW {archive/archive:dead*}

# -- the medic

medic | info | -
# the lease of older releases, which the one that leads takes from their medics
medic | LEASE | RW lease:medic lease-epoch:medic
medic | publish subscribe | & lease:medic
medic | type del hget hset hdel hstrlen xadd | RW medic:state medic:incidents medic:approvals medic:evidence\
 medic:dry:state medic:dry:incidents medic:dry:approvals medic:dry:evidence
medic | xrevrange | R medic:incidents medic:dry:incidents
# by its readers it sees how long it is to keep them
medic | xinfo|groups xinfo|stream | R medic:incidents medic:evidence medic:alerts\
 medic:dry:incidents medic:dry:evidence medic:dry:alerts
medic | hgetall hmget hget hset hdel type del | RW medic:alerts:outages medic:dry:alerts:outages
medic | xadd xdel type del | W medic:alerts medic:dry:alerts
medic | hget hgetall | R healer:relayed
medic | type hstrlen hget | R notifier:state
medic | xrevrange | R truth:history
medic | type hlen hkeys hstrlen hget | R {sources/market:sources}
medic | exists xinfo|stream xrange | R {bars/market:quarantine}
medic | getrange | R probe:* | {massive/massive:probes}
medic | type xinfo|stream getrange | R {ruled-keys}

# what the ladders of the truth have it do, and what came of it; SCAN shows the names of all keys of the bus
medic | scan | - | caches
medic | unlink | W {caches}
medic | type hlen hkeys hstrlen hget | R market:sources | sources
medic | getrange | R preload:status | sources
medic | type hstrlen hget | R sources:breaker:* | sources
medic | hdel | W sources:breaker:* | sources sources+resume_sources
medic | hset pexpire | W sources:breaker:* | sources sources+pause_source
medic | type hlen hkeys hstrlen hget | R market:series | sources sources+pause_source
board medic | getrange | R archive:backup archive:database | system-redis archive
medic | set | W archive:backup:request | system-redis archive archive+repeat_backup
medic | set | W archive:reconnect:request | system-redis archive+reconnect
medic | getrange | R archive:reconnect | system-redis archive+reconnect
medic | set | W board:reconnect:request | system-redis board+reconnect
medic | getrange | R board:reconnect | system-redis board+reconnect
medic | set | W sources:reload:request | system-redis sources+reload_series
medic | getrange | R sources:reload | system-redis sources+reload_series
medic | SEED | RW {truth} truth:meta truth:history | roll-back
medic | publish | & truth:changed | roll-back
medic | xadd | W board:audit | roll-back system-redis
"""
COMMANDS: Final = {
    # what may be done to keys; of a stream, all but to use its consumer groups
    "DATA": (
        "@string @hash @list @set @sortedset @stream @bitmap @hyperloglog @geo"
        " del unlink exists type touch expire pexpire expireat pexpireat persist ttl pttl -@dangerous"
        # XREADGROUP is there, because a user who may only read a key may take the entries of its groups
        " -xreadgroup -xack -xclaim -xautoclaim -xgroup -xsetid"
    ),
    "GROUP": "xreadgroup xack xclaim xautoclaim xgroup|create xgroup|createconsumer xgroup|delconsumer",
    "LEASE": "type get set del exists pttl pexpire hset hmget",
    # only users that seed load, list and delete code
    "LOAD": "function|list function|load function|delete script|load",
    "SEED": (
        "type get hget hmget hgetall pttl xrange xrevrange dump set del hset pexpire xadd xdel xtrim restore"
    ),
}

_MODES: Final[Mapping[str, Mode]] = {"R": "R", "W": "W", "RW": "", "-": "", "&": ""}

Finder = Callable[[str, BusView], Iterable[str]]
"""Returns ACL patterns for the user of a service, on one bus of a truth."""
Condition = Callable[[str, BusView], object]
"""Returns something true if a row counts for the user of a service, on one bus of a truth."""


def _list_mesh(_svc: str, view: BusView) -> Iterable[str]:
    """Return the keys of mesh, even without a mesh: reading a missing key must not fail with NOPERM."""
    if "mesh" in view.truth.services:
        return services.list_written("mesh", view)
    return [point.key for point in services.DEFAULT_WRITES["mesh"] if point.bus == view.bus]


def _list_measured(_svc: str, view: BusView) -> list[str]:
    """Return each key without a `*` that the truth names on this bus."""
    found = build_flows(view.truth).keys
    return [escape_pattern(key.name) for key in found if key.bus == view.bus and not key.is_pattern]


def _list_ruled_keys(_svc: str, view: BusView) -> list[str]:
    """Return the keys of which a rule of the medic asks how old they are, and that a service writes."""
    words = remedies.list_rule_words(view.truth, "key")
    names = [word for word in words if not word.startswith(keys.RESERVED_PREFIXES)]
    found = [services.find_written_key(view.truth, svc, key) for key in names for svc in view.truth.services]
    return [escape_pattern(each.key) for each in found if each and each.bus == view.bus]


def _list_healer_beats(_svc: str, view: BusView) -> list[str]:
    is_here = HEALER in view.truth.services and view.truth.bus_of(HEALER) == view.bus
    declared = [escape_pattern(view.truth.channel_of(HEALER))] if is_here else []
    return [*declared, keys.heartbeat_channel(HEALER)]


WORDS: Final[Mapping[str, Finder]] = {
    "svc": lambda svc, _view: (svc,),
    "truth": lambda _svc, view: (escape_pattern(view.truth_key),),
    "alerts": lambda _svc, view: (escape_pattern(view.alerts),),
    "all-beats": lambda _svc, view: view.beat_patterns(),
    "healer-beats": _list_healer_beats,
    "own-beats": lambda svc, view: (escape_pattern(view.truth.channel_of(svc)),),
    "buses": lambda _svc, view: map(escape_pattern, view.truth.bus_names()),
    # access points
    "published": lambda svc, view: services.list_written(svc, view, keep_wildcards=True),
    "data": services.list_data,
    "state": services.list_state,
    "written-log": lambda svc, view: {keys.ALERT_LOG}.intersection(services.list_written_names(svc, view)),
    "subscribed": services.list_subscribed,
    "read": services.list_read,
    "read-by-group": services.list_read_by_group,
    # the market, and what mesh and the medic measure
    "mesh": _list_mesh,
    "measured": _list_measured,
    "ruled-keys": _list_ruled_keys,
    "unchecked-bars": lambda _svc, view: services.list_read(BARS, view, keys.MARKET_BARS, keys.MARKET_QUOTES),
    "caches": lambda _svc, view: remedies.list_cleared_caches(view.truth, view.bus),
}
"""By word in braces: what lists the names that it stands for."""
CONDITIONS: Final[Mapping[str, Condition]] = {
    "system-redis": lambda _svc, view: view.bus == SYSTEM,
    "market-redis": lambda _svc, view: view.bus == MARKET,
    "beats": lambda svc, view: view.truth.bus_of(svc) == view.bus,
    "caches": WORDS["caches"],
    "followed": lambda svc, view: services.list_read(svc, view, *services.FOLLOWED),
    "sources": lambda _svc, view: view.bus == remedies.find_sources_bus(view.truth),
    "archive": lambda _svc, view: ARCHIVE in view.truth.services,
    "massive": lambda _svc, view: "massive" in view.truth.services,
    "alerts": lambda _svc, view: view.bus == view.truth.alert_target(view.alert_channel)[0],
    "board-seeds": lambda _svc, view: view.truth.services[BOARD].settings.get("seed") is True,
    "roll-back": lambda _svc, view: remedies.is_in_a_ladder(view.truth, Remedy.ROLL_BACK_TRUTH),
}
"""By word of the fourth column: what decides whether a row counts."""


class Right(NamedTuple):
    """A row of the table. `names` list patterns of keys, or of channels if `mode` is `&`."""

    users: frozenset[str]
    commands: str
    mode: str
    names: tuple[Finder, ...]
    conditions: tuple[Condition, ...]


def parse_rights(table: str) -> Iterator[Right]:
    """Yield the rights of a table's rows. Raises KeyError or ValueError if a row has an unknown word."""
    for line in table.splitlines():
        if line and not line.startswith("#"):
            users, words, (mode, *names), conditions = (part.split() for part in (*line.split(" | "), "")[:4])
            if mode not in _MODES:
                raise ValueError(f"{line}: {mode} is no mode")
            commands = " ".join(COMMANDS.get(word, word) for word in words)
            finders = tuple(map(_parse_name, names))
            yield Right(frozenset(users), commands, mode, finders, tuple(map(_parse_condition, conditions)))


def _parse_name(name: str) -> Finder:
    """Return what lists the patterns of a name. Raises KeyError if a word in braces is unknown."""
    before, _, rest = name.partition("{")
    word, _, after = rest.partition("}")
    if not word:
        return lambda _svc, _view: (name,)
    find = _find_written(word) if "/" in word else WORDS[word]
    return lambda svc, view: [f"{before}{each}{after}" for each in find(svc, view)]


def _find_written(word: str) -> Finder:
    svc, _, key = word.partition("/")
    like, keep_wildcards = key.rstrip("*"), key.endswith("*")
    return lambda _svc, view: services.list_written(svc, view, like, keep_wildcards=keep_wildcards)


def _parse_condition(word: str) -> Condition:
    """Return what decides a condition. Raises KeyError or ValueError if a word is unknown."""
    svc, _, name = word.partition("+")
    if name:
        remedy = Remedy(name)
        return lambda _svc, view: remedy in list_ladder(view.truth, svc)
    return _parse_name(word) if word.startswith("{") else CONDITIONS[word]


RIGHTS: Final = tuple(parse_rights(TABLE))


def list_grants(users: Collection[str], svc: str, view: BusView) -> Iterator[Grant]:
    """Yield what the table grants to these users, for the user of the service `svc`, on one bus.

    A grant with neither keys nor channels is one of commands that take none.
    """
    for right in RIGHTS:
        if right.users.isdisjoint(users) or not all(holds(svc, view) for holds in right.conditions):
            continue
        names = tuple(dict.fromkeys(each for find in right.names for each in find(svc, view)))
        if right.mode == "&" and names:
            yield Grant(right.commands, channels=names)
        elif right.mode == "-" or names:
            yield Grant(right.commands, names, mode=_MODES[right.mode])


def grant_default_user(view: BusView) -> Grant:
    """Return the grant of `default`: read health, truth and topology, subscribe to alerts and beats.

    ACLs don't check the pattern that the command KEYS is given, so the grant names the three allowed
    patterns.
    """
    patterns = (keys.health_key("*"), view.truth_key, keys.MESH_TOPOLOGY)
    return Grant(
        "ping pubsub get getrange subscribe psubscribe unsubscribe punsubscribe "
        + " ".join(f"keys|{pattern}" for pattern in patterns),
        (keys.health_key("*"), escape_pattern(view.truth_key), keys.MESH_TOPOLOGY),
        (escape_pattern(view.alerts), ALL_BEATS),
        mode="R",
    )
