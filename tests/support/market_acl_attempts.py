"""The commands that are tried against the ACLs of `examples/market.json`, by bus and user; one a line."""

from support.acl_attempts import (
    AS_A_SERVICE,
    FAKING,
    HARM,
    MARKET,
    READING_THE_LOG,
    SYSTEM,
    lines,
    list_group_commands,
)

NOT_OF_A_MARKET = [line for line in AS_A_SERVICE if line not in lines(READING_THE_LOG)]
MARKET_REFUSED = {
    (SYSTEM, "archive"): [
        *NOT_OF_A_MARKET,
        *lines(FAKING),
        "HSET archive:other a b",
        "HGET medic:state fuse",
        *list_group_commands("medic:incidents", "archive"),
        *list_group_commands("medic:evidence", "archive"),
    ],
    (MARKET, "archive"): [
        *AS_A_SERVICE,
        *lines(FAKING),
        *list_group_commands("market:sources", "archive"),
        *list_group_commands("preload:status", "archive"),
        "XADD bars:bars * a b",
        "XADD market:quotes * a b",
        "XGROUP DESTROY bars:bars archive",
        "XGROUP SETID bars:bars archive 0",
        "HSET market:sources a b",
    ],
    (SYSTEM, "sources"): [
        *AS_A_SERVICE,
        *lines(FAKING),
        "XDEL healer:alerts:log 1-1",
        "HSET healer:relayed market:alerts 0-0",
        *list_group_commands("market:alerts", "x"),
    ],
    (MARKET, "sources"): [
        *AS_A_SERVICE,
        *lines(FAKING),
        "XADD bars:bars * a b",
        "XRANGE bars:bars - +",
        "XADD market:quarantine * a b",
        "HSET bars:state:SPY a b",
        *list_group_commands("market:quotes", "archive"),
        *list_group_commands("market:downloads", "archive"),
    ],
    (SYSTEM, "bars"): [*AS_A_SERVICE, *lines(FAKING)],
    (MARKET, "bars"): [
        *AS_A_SERVICE,
        *lines(FAKING),
        "XADD market:bars * a b",
        "DEL market:bars",
        "HSET sources:breaker:yahoo a b",
        *list_group_commands("market:quotes", "archive"),
        *list_group_commands("bars:bars", "archive"),
        *list_group_commands("preload:status", "archive"),
    ],
    (SYSTEM, "signals"): [
        *AS_A_SERVICE,
        *lines(FAKING),
        "XDEL healer:alerts:log 1-1",
        "HSET healer:relayed signals:alerts 0-0",
        "XADD market:alerts * event {}",
        "HSET medic:alerts:outages a b",
        *list_group_commands("signals:alerts", "x"),
    ],
    (MARKET, "signals"): [
        *AS_A_SERVICE,
        *lines(FAKING),
        "XADD bars:bars * a b",
        "XTRIM bars:bars MAXLEN 0",
        "DEL bars:bars",
        "XADD market:quotes * a b",
        "HSET sources:breaker:yahoo a b",
        "SET bars:state:SPY a",
        "SET quotes:SPY {}",
        *list_group_commands("bars:bars", "archive"),
    ],
    (SYSTEM, "board"): [
        *lines(HARM, FAKING),
        "SET health:other {}",
        "HSET archive:positions a b",
        "HSET signals:alerts:outages a b",
        "XADD signals:alerts * event {}",
    ],
    (MARKET, "board"): [
        # its page of the caches counts what is kept of answers, and SCAN finds their keys
        *[line for line in lines(HARM, FAKING) if line != "SCAN 0"],
        "XADD market:bars * a b",
        "HSET market:series a b",
        "HSET market:sources a b",
        "SET preload:status x",
        "XDEL market:quarantine 1-1",
        *list_group_commands("bars:bars", "archive"),
        *list_group_commands("bars:indicators", "archive"),
        *list_group_commands("market:quotes", "archive"),
        *list_group_commands("market:series", "x"),
        *list_group_commands("market:sources", "x"),
        *list_group_commands("market:quarantine", "x"),
        *list_group_commands("signals:log", "x"),
        "XADD signals:log * a b",
        "XTRIM signals:log MAXLEN 0",
        "SET signals:votes:grok:SPY {}",
    ],
    (SYSTEM, "healer"): ["XADD signals:alerts * event {}", "HSET signals:alerts:outages a b"],
    (MARKET, "operator"): ["XADD signals:log * a b", "XDEL signals:log 1-1", "DEL signals:log"],
}
MARKET_DONE = {
    (SYSTEM, "archive"): """
        XREAD STREAMS healer:alerts:log 0
        XREVRANGE healer:alerts:log + -
        XREAD STREAMS medic:incidents 0
        XREAD STREAMS medic:evidence 0
        HGET archive:positions healer:alerts:log
        HSET archive:positions healer:alerts:log 1-1
        XADD archive:dead * a b
    """,
    (MARKET, "archive"): """
        XGROUP CREATE bars:bars archive 0 MKSTREAM
        XREADGROUP GROUP archive me STREAMS bars:bars >
        XACK bars:bars archive 1-1
        HGETALL market:sources
        XADD archive:dead * a b
    """,
    (SYSTEM, "sources"): """
        XADD market:alerts * event {}
        HSET market:alerts:outages a b
        HGET healer:relayed market:alerts
    """,
    (MARKET, "sources"): """
        XADD market:bars * a b
        HSET market:series a b
        HSET market:sources a b
        SET preload:status {}
        HSET sources:breaker:yahoo a b
    """,
    (MARKET, "bars"): """
        XREAD STREAMS market:bars 0
        XINFO STREAM market:bars
        XADD bars:bars * a b
        XINFO GROUPS bars:bars
        XGROUP DESTROY bars:bars archive
        XADD market:quarantine * a b
        HSET bars:state:SPY a b
    """,
    (SYSTEM, "signals"): """
        XADD signals:alerts * event {}
        HSET signals:alerts:outages witness {}
        HMGET signals:alerts:outages witness
        XINFO STREAM signals:alerts
        HGET healer:relayed signals:alerts
        HGETALL healer:relayed
        SET own-lease:signals:deciding x
        HSET own-lease-epoch:signals:deciding a 1
    """,
    (MARKET, "signals"): """
        XREAD STREAMS bars:bars 0
        XINFO STREAM bars:bars
        TYPE bars:bars
        XADD signals:log * a b
        XINFO GROUPS signals:log
        XINFO STREAM signals:log
        XREVRANGE signals:log + -
        SET signals:votes:grok:SPY {} PX 1000
        MGET signals:votes:grok:SPY signals:votes:grok:QQQ
        HSET signals:breaker:grok:0123456789abcdef a 1
        HGETALL signals:breaker:grok:0123456789abcdef
        PEXPIRE signals:breaker:grok:0123456789abcdef 1000
        HSET signals:account:grok:0123456789abcdef a 1
        INCR signals:budget:grok
        SET signals:shadow {}
        SET signals:witness {}
        XADD signals:wordings MAXLEN ~ 1000 * a b
    """,
    (SYSTEM, "healer"): """
        XREAD STREAMS signals:alerts 0
        XRANGE signals:alerts - +
        XREVRANGE signals:alerts + -
    """,
    (MARKET, "operator"): """
        XREVRANGE signals:log + -
        XREAD STREAMS signals:log 0
        XREAD STREAMS signals:wordings 0
        XREVRANGE signals:wordings + - COUNT 1
        GET quotes:SPY
        GET chart:SPY:1m
        GET observations:US.CPI
    """,
    (SYSTEM, "board"): """
        HGETALL signals:alerts:outages
        XRANGE healer:alerts:log - +
        XREAD STREAMS healer:alerts:log 0
        XADD board:audit * a b
    """,
    (MARKET, "board"): """
        SCAN 0 MATCH quotes:* COUNT 9
        XREAD STREAMS bars:bars 0
        XINFO GROUPS bars:bars
        HGETALL market:series
        HGETALL market:sources
        XREVRANGE market:quarantine + -
        XREAD STREAMS signals:log 0
        XREVRANGE signals:log + -
        GETRANGE signals:shadow 0 65536
        GETRANGE signals:witness 0 1024
        SET quotes:SPY {}
    """,
}
