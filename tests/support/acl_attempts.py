"""The commands that are tried against the ACLs of `truth.json`, by bus and user; one a line.

Those for `examples/market.json` are in `market_acl_attempts.py`.
"""

SYSTEM, MARKET = "system-redis", "market-redis"


def lines(*texts: str) -> list[str]:
    return [line.strip() for text in texts for line in text.splitlines() if line.strip()]


def list_group_commands(stream: str, group: str) -> list[str]:
    """Return what one can do to a consumer group of a stream: take its entries, or end it."""
    return lines(
        f"""
        XREADGROUP GROUP {group} x NOACK STREAMS {stream} >
        XREADGROUP GROUP {group} x STREAMS {stream} >
        XACK {stream} {group} 1-1
        XCLAIM {stream} {group} x 0 1-1
        XAUTOCLAIM {stream} {group} x 0 0
        XGROUP CREATE {stream} junk 0 MKSTREAM
        XGROUP CREATECONSUMER {stream} {group} x
        XGROUP DELCONSUMER {stream} {group} x
        XGROUP SETID {stream} {group} 18446744073709551615-18446744073709551615
        """
    )


HARM_TO_A_SERVER = """
    CONFIG GET *
    CONFIG SET maxmemory 1
    FLUSHALL
    FLUSHDB
    SHUTDOWN NOSAVE
    KEYS *
    SCAN 0
    RANDOMKEY
    DBSIZE
    MONITOR
    ACL LIST
    ACL WHOAMI
    ACL SETUSER x on nopass ~* &* +@all
    CLIENT LIST
    CLIENT KILL TYPE normal
    BGREWRITEAOF
    MODULE LIST
    SCRIPT FLUSH
    REPLICAOF 127.0.0.1 1
    SAVE
    SLOWLOG GET
    EVAL 0 0
    XTRIM healer:alerts:log MAXLEN 0
    DEL healer:alerts:log
    DEL healer:roster
    DEL healer:lease
    SUBSCRIBE other
    PSUBSCRIBE *
    GET secret
    SORT truth:doc
    COPY truth:doc mine
    RENAME truth:doc mine
    MOVE truth:doc 1
    OBJECT FREQ truth:doc
    DEBUG SLEEP 0
    DEBUG OBJECT truth:doc
    MIGRATE 127.0.0.1 1 truth:doc 0 1
    CLIENT PAUSE 1
    CLIENT KILL 127.0.0.1:1
    CLIENT NO-EVICT on
    CONFIG REWRITE
    CONFIG RESETSTAT
    SWAPDB 0 1
    SYNC
    PSYNC ? -1
    REPLCONF ack 1
    SLAVEOF 127.0.0.1 1
    FAILOVER
    CLUSTER INFO
    MODULE LOAD /tmp/x.so
    FUNCTION FLUSH
    FUNCTION DUMP
    FUNCTION RESTORE x
    EVALSHA_RO 0 0
    EVAL_RO 0 0
    ACL GENPASS
    ACL LOG
    ACL SAVE
    ACL DELUSER healer
    LATENCY LATEST
    MEMORY STATS
    SPUBLISH healer:alerts x
"""
LOADING_CODE = """
    SCRIPT LOAD x
    SCRIPT EXISTS x
    EVALSHA 0 0
    FUNCTION LOAD x
    FUNCTION LOAD REPLACE x
    FUNCTION DELETE x
    FUNCTION LIST
    FUNCTION STATS
"""
SPOOFING = """
    PUBLISH other:heartbeat {}
    SET beat:other {}
    XADD pings:other * kind fail
    DEL pings:other
    SET health:other {}
"""
SEEDING = """
    SET truth:doc {}
    DEL truth:doc
    DUMP truth:doc
    HSET truth:meta revision 9
    PUBLISH truth:changed {}
"""
FAKING = """
    PUBLISH healer:alerts {}
    XADD healer:alerts:log * event {}
"""
READING_THE_LOG = """
    XRANGE healer:alerts:log - +
    XREAD STREAMS healer:alerts:log 0
    XREVRANGE healer:alerts:log + -
    XINFO STREAM healer:alerts:log
    XLEN healer:alerts:log
"""
MONITORS_KEYS = """
    HSET medic:state a b
    XADD medic:incidents * entry {}
    HSET medic:approvals a {}
    PUBLISH healer:heartbeat {}
    PUBLISH healer:canary:x 1
    SET beat:healer {}
    GET beat:vexy_ai
    HGETALL healer:roster
    HSET healer:roster rss_agg {}
    HSET healer:lease boot me
    SET health:healer {}
    SET notifier:lease me
    HSET notifier:silences a b
    XADD notifier:asks * ask {}
    XADD notifier:dead * a b
    SET notifier:told:x y
    HGETALL board:tokens
    HSET board:tokens a {}
    XADD board:audit * a b
    SET board:links:x 1
    XADD board:announcements * a b
    SET mesh:topology {}
    INFO
    ACL LOAD
    SCRIPT KILL
"""
LISTENING = """
    SUBSCRIBE healer:alerts
    SUBSCRIBE mesh:heartbeat
    PSUBSCRIBE *:heartbeat
    PUBSUB CHANNELS
"""
HARM = HARM_TO_A_SERVER + LOADING_CODE
LEADERS_KEYS = tuple(
    f"{command} {key}{rest}"
    for key in ("own-lease:medic:healing", "own-lease-epoch:medic:healing", "own-lease:other:x")
    for command, rest in (
        ("DEL", ""),
        ("SET", " 9"),
        ("HSET", " claim x"),
        ("PEXPIRE", " 9"),
        ("PUBLISH", " free"),
    )
)
"""What would end the term of another part's leader."""
AS_A_SERVICE = lines(
    HARM,
    SPOOFING,
    SEEDING,
    READING_THE_LOG,
    MONITORS_KEYS,
    LISTENING,
    "DEL members:other",
    *LEADERS_KEYS,
)
AS_A_MONITOR = lines(
    HARM,
    SPOOFING,
    SEEDING,
    "SET lease:x y",
    "XADD rss:items * a b",
    "DEL rss:items",
)
ITS_OWN_KEYS = lines(
    """
    SET health:other {}
    DEL healer:roster
    DEL healer:lease
    """
)
"""Of a monitor's list, what the healer may: it replaces a key of its own that holds another kind of value.

A SET would destroy them as well as a DEL, so to refuse DEL would protect nothing.
"""
THE_LOG = "DEL healer:alerts:log"
"""What healer and sentinel may, who write the log: an XADD with MAXLEN would empty it as well."""
READING_MORE_OF_THE_LOG = [
    line for line in lines(READING_THE_LOG) if line.split()[0] not in ("XREVRANGE", "XINFO")
]
"""What the healer may not, who keeps what is unread when it begins a log anew that was ended."""

REFUSED = {
    (SYSTEM, "rss_agg"): [
        *AS_A_SERVICE,
        *lines(FAKING),
        "PUBLISH mesh:heartbeat {}",
        "HGETALL massive:roster",
        "GET beat:rss_agg",
        "SET beat:rss_agg {} GET",
        "FCALL f 1 healer:roster",
    ],
    (MARKET, "rss_agg"): [
        *AS_A_SERVICE,
        *lines(FAKING),
        "PUBLISH rss_agg:heartbeat {}",  # it beats on the other bus
        "XADD vexy:notes * a b",
        "XRANGE vexy:notes - +",
        "XADD massive:probes * a b",
        "XRANGE market:bars - +",
        "SET probe:x {}",
    ],
    (SYSTEM, "vexy_ai"): [
        *AS_A_SERVICE,
        *lines(FAKING),
        "PUBLISH rss_agg:heartbeat {}",
        "SET beat:rss_agg {}",
    ],
    (MARKET, "vexy_ai"): [
        *AS_A_SERVICE,
        *lines(FAKING),
        "XADD rss:items * a b",
        "XDEL rss:items 1-1",
        "XTRIM rss:items MAXLEN 0",
        "DEL rss:items",
        "EXPIRE rss:items 1",
        "DEL rss:items:seen:x",
        "HGETALL rss:items:feed:x",
        "XGROUP DESTROY rss:items vexy_ai",
        "XGROUP SETID rss:items vexy_ai 0",
    ],
    (SYSTEM, "massive"): [
        *AS_A_SERVICE,
        *lines(FAKING),
        "PUBLISH rss_agg:heartbeat {}",
        "LPUSH healer:alerts x",
        "XDEL healer:alerts:log 1-1",
        "HSET healer:relayed massive:alerts 0-0",
    ],
    (MARKET, "massive"): [*AS_A_SERVICE, *lines(FAKING), "XADD rss:items * a b", "XRANGE rss:items - +"],
    (SYSTEM, "mesh"): [
        *AS_A_MONITOR,
        *lines(FAKING),
        "PUBLISH rss_agg:heartbeat {}",
        "GET health:rss_agg",
        "GET beat:rss_agg",
        "SET beat:healer {}",
        "HSET healer:lease boot me",
    ],
    (MARKET, "mesh"): [*AS_A_MONITOR, *lines(FAKING), "XDEL vexy:notes 1-1", "XACK rss:items vexy_ai 1-1"],
    (SYSTEM, "healer"): [
        *(line for line in AS_A_MONITOR if line not in (*ITS_OWN_KEYS, THE_LOG)),
        *READING_MORE_OF_THE_LOG,
        "PUBLISH rss_agg:heartbeat {}",
        "SET beat:rss_agg {}",
        "DEL beat:rss_agg",
        "HSET sentinel:roster a b",
        "SET notifier:lease me",
        "SET notifier:told:x y",
    ],
    (SYSTEM, "sentinel"): [
        *(line for line in AS_A_MONITOR if line != THE_LOG),
        "PUBLISH healer:heartbeat {}",
        "SET beat:healer {}",
        "SET health:rss_agg {}",
        "HSET healer:roster a b",
        "HSET healer:lease boot me",
        "SET notifier:lease me",
        "DEL notifier:told:x",
        "SUBSCRIBE rss_agg:heartbeat",
    ],
    (SYSTEM, "notifier"): [
        *AS_A_MONITOR,
        *lines(FAKING),
        "PUBLISH healer:heartbeat {}",
        "SET beat:healer {}",
        "SET health:healer {}",
        "HGETALL healer:roster",
        "HSET healer:roster a b",
        "DEL sentinel:direct",
        "HSET medic:state a b",
        "HGETALL medic:state",
        "XREVRANGE medic:incidents + -",
        "XREVRANGE medic:evidence + -",
        "HGET medic:approvals a",
        "DEL own-lease:medic:healing",
        "EXISTS own-lease:medic:dry",
        "EXISTS lease:other",
    ],
    (SYSTEM, "bootstrap"): lines(
        HARM_TO_A_SERVER, SPOOFING, FAKING, READING_THE_LOG, MONITORS_KEYS, LISTENING
    ),
    (SYSTEM, "operator"): [
        *lines(HARM_TO_A_SERVER, FAKING),
        "HSET healer:lease boot me",
        "HSET healer:roster a b",
        "SET health:rss_agg {}",
        "SET notifier:lease me",
        "XADD board:announcements * a b",
        "XREVRANGE board:announcements + -",
        "XADD board:audit * a b",
        "XADD rss:items * a b",
        "XRANGE rss:items - +",
    ],
    (SYSTEM, "board"): [
        *lines(HARM, FAKING),
        "SET health:other {}",
        "HSET medic:state a b",
        "HGETALL medic:approvals",
        "HDEL medic:approvals a",
        "XADD medic:incidents * entry {}",
        "XREVRANGE medic:evidence + -",
        *list_group_commands("medic:incidents", "archive"),
    ],
    (SYSTEM, "medic"): [
        *AS_A_MONITOR,
        *lines(FAKING),
        "SUBSCRIBE lease:other",
        "SUBSCRIBE own-lease:other:x",
        *(line for line in LEADERS_KEYS if ":medic:" not in line),
        "PUBLISH healer:heartbeat {}",
        "SET beat:healer {}",
        "HSET healer:lease boot me",
        "HSET healer:roster a b",
        "DEL healer:roster",
        "HSET notifier:silences a {}",
        "XADD notifier:asks * ask {}",
        "SET notifier:told:x y",
        "HGETALL board:tokens",
        "HSET board:tokens a {}",
        "SET mesh:topology {}",
        "XADD truth:history * a b",
        "XTRIM medic:incidents MAXLEN 0",
        "XDEL medic:incidents 1-1",
        "XSETID medic:incidents 18446744073709551615-1",
        "XDEL medic:evidence 1-1",
        *list_group_commands("medic:incidents", "archive"),
    ],
    (MARKET, "medic"): [
        *AS_A_MONITOR,
        *lines(FAKING),
        "PUBLISH medic:heartbeat {}",
        "SET beat:medic {}",
        "SET probe:shop {}",
        "DEL probe:shop",
        "GETRANGE rss:items 0 9",
        "XINFO STREAM rss:items",
        "XINFO STREAM massive:probes",
        "XREVRANGE massive:probes + -",
    ],
    (MARKET, "healer"): [
        *(line for line in AS_A_MONITOR if line not in (*ITS_OWN_KEYS, THE_LOG)),
        *READING_MORE_OF_THE_LOG,
        "PUBLISH healer:heartbeat {}",
    ],
    (MARKET, "sentinel"): [
        *(line for line in AS_A_MONITOR if line != THE_LOG),
        "HSET healer:lease boot me",
        "SUBSCRIBE mesh:heartbeat",
    ],
    (MARKET, "notifier"): [
        *AS_A_MONITOR,
        *lines(FAKING),
        "PUBLISH notifier:heartbeat {}",
        "HGET medic:state repair:rss_agg",
        "EXISTS own-lease:medic:healing",
    ],
    (MARKET, "bootstrap"): lines(HARM_TO_A_SERVER, SPOOFING, FAKING, READING_THE_LOG, MONITORS_KEYS),
    (MARKET, "operator"): [*lines(HARM_TO_A_SERVER, FAKING), "XADD rss:items * a b", "XRANGE rss:items - +"],
    (MARKET, "default"): lines(HARM, SPOOFING, SEEDING, FAKING, READING_THE_LOG, MONITORS_KEYS),
    (SYSTEM, "default"): [
        *lines(HARM, SPOOFING, SEEDING, FAKING, READING_THE_LOG, MONITORS_KEYS),
        "PUBLISH rss_agg:heartbeat {}",
        "GET truth:meta",
        "GET rss:items",
        "KEYS *:*",
        "KEYS health:",
        "KEYS health:**",
        "TTL truth:doc",
        "FCALL f 0",
    ],
}

DONE = {
    (SYSTEM, "rss_agg"): """
        PING
        GET truth:doc
        HMGET truth:meta revision
        PUBLISH rss_agg:heartbeat {}
        SET beat:rss_agg {} PX 9
        SET beat:rss_agg {} XX KEEPTTL
        XADD pings:rss_agg MAXLEN ~ 9 * a b
        PEXPIRE pings:rss_agg 9
        DEL pings:rss_agg
        SUBSCRIBE truth:changed
        SUBSCRIBE members:rss_agg:feeds
        SUBSCRIBE lease:nightly
        HSET lease:nightly claim x
        HSET own-lease:rss_agg:nightly claim x
        SET own-lease-epoch:rss_agg:nightly 9
        PUBLISH own-lease:rss_agg:nightly free
    """,
    (MARKET, "rss_agg"): """
        GET truth:doc
        XADD rss:items * a b
        HSET rss:items:feed:x a b
        SET rss:items:usable 1 PX 1
    """,
    (MARKET, "vexy_ai"): """
        XGROUP CREATE rss:items vexy_ai 0 MKSTREAM
        XREADGROUP GROUP vexy_ai me STREAMS rss:items >
        XACK rss:items vexy_ai 1-1
        XRANGE rss:items - +
        XADD vexy:notes * a b
        XADD vexy:dead * a b
    """,
    (MARKET, "massive"): """
        XADD massive:probes * a b
        SET probe:shop {}
        XADD market:bars * a b
        SETBIT market:bars:seen:A:1 1 1
    """,
    (SYSTEM, "massive"): """
        HSET massive:roster a b
        XADD massive:alerts * event {}
        XINFO GROUPS massive:alerts
        HGET healer:relayed massive:alerts
        HGETALL healer:relayed
    """,
    (SYSTEM, "mesh"): """
        PSUBSCRIBE *:heartbeat
        SET mesh:topology {} EX 9
        XADD mesh:events * a b
        PUBSUB NUMSUB a
    """,
    (MARKET, "mesh"): """
        XINFO STREAM rss:items
        TYPE vexy:notes
        PSUBSCRIBE *:heartbeat
    """,
    (SYSTEM, "healer"): """
        SUBSCRIBE rss_agg:heartbeat
        SUBSCRIBE new:heartbeat
        GETRANGE beat:rss_agg 0 9
        GETRANGE run:backup 0 9
        HSET healer:roster rss_agg {}
        HGET healer:lease boot
        DEL healer:lease
        DEL healer:roster
        HSCAN healer:heard 0
        HSCAN healer:jobs 0
        HSET healer:relayed massive:alerts 1-1
        XINFO STREAM healer:alerts:log
        XINFO GROUPS healer:alerts:log
        HGETALL archive:positions
        XREAD STREAMS massive:alerts 0
        SET health:rss_agg {} EX 9
        PUBLISH healer:alerts {}
        XADD healer:alerts:log * event {}
    """,
    (SYSTEM, "sentinel"): """
        SUBSCRIBE healer:heartbeat
        XREAD STREAMS healer:alerts:log 0
        SET notifier:told:x y EX 9 NX
        EXISTS notifier:told:x
        HMGET healer:roster rss_agg
        HSET sentinel:direct a b
    """,
    (SYSTEM, "notifier"): """
        XGROUP CREATE healer:alerts:log n 0 MKSTREAM
        SET notifier:lease me PX 9
        XLEN notifier:dead
        HGET medic:state repair:rss_agg
        EXISTS own-lease:medic:healing
    """,
    (SYSTEM, "bootstrap"): """
        PING
        SET truth:doc {}
        PUBLISH truth:changed {}
    """,
    (SYSTEM, "operator"): """
        INFO server
        HGETALL healer:roster
        XREAD STREAMS healer:alerts:log 0
        PUBLISH new:heartbeat {}
        MGET health:a health:b
        SET truth:doc {}
        HSET notifier:silences a {}
        HDEL notifier:silences a
        XADD notifier:asks MAXLEN ~ 100 * ask {}
        DEL notifier:asks
        DEL board:audit
        DEL medic:state
        LRANGE notifier:answers:x 0 -1
        XRANGE notifier:dead - +
        HSET board:tokens a {}
        XREVRANGE medic:dry:incidents + -
        HGETALL board:tokens
        HLEN board:tokens
        HDEL board:tokens a
        XRANGE board:audit - +
        SUBSCRIBE healer:alerts
        SET beat:rss_agg {} PX 9
        SET run:nightly {}
        XADD pings:nightly * a b
        PEXPIRE pings:nightly 9
        DEL pings:nightly
    """,
    (SYSTEM, "board"): f"""
        {SEEDING}
        ACL DRYRUN healer PING
        HGET board:tokens a
        XADD board:audit * a b
        SET board:links:x claimed NX EX 60
        GET board:links:x
        DEL board:links:x
        XADD board:announcements * a b
        XREVRANGE board:announcements + -
        XREAD STREAMS medic:incidents 0
        HSET medic:approvals a {{}}
        PUBLISH other:heartbeat {{}}
        SET beat:other {{}}
    """,
    (MARKET, "board"): """
        XREVRANGE vexy:notes + -
    """,
    (SYSTEM, "medic"): """
        GET truth:doc
        PUBLISH medic:heartbeat {}
        SET beat:medic {} PX 9
        SET own-lease:medic:healing me PX 9 NX
        SET own-lease-epoch:medic:dry 9
        SET lease:medic me PX 9 NX
        HGETALL healer:roster
        HGETALL notifier:silences
        GET beat:rss_agg
        GET mesh:topology
        XREAD STREAMS healer:alerts:log 0
        XREVRANGE truth:history + -
        HGET medic:state fuse
        HSET medic:state fuse {}
        XADD medic:incidents * entry {}
        XADD medic:evidence * entry {}
        HSET medic:dry:state fuse {}
        XADD medic:dry:incidents * entry {}
        XADD medic:dry:alerts * event {}
        HDEL medic:approvals a
    """,
    (MARKET, "medic"): """
        XREAD STREAMS healer:alerts:log 0
        HGETALL notifier:silences
        GETRANGE probe:shop 0 9
    """,
    # the operator's document as it is written
    (SYSTEM, "default"): """
        PING
        SUBSCRIBE healer:alerts
        SUBSCRIBE rss_agg:heartbeat
        PSUBSCRIBE *:heartbeat
        PUBSUB NUMSUB rss_agg:heartbeat
        PUBSUB CHANNELS
        KEYS health:*
        GET health:rss_agg
        GET truth:doc
        KEYS truth:doc
        GET mesh:topology
        KEYS mesh:topology
    """,
}
