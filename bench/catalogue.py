"""The table of all benches: what each one measures, against which limit, how often, and with which goal.

A limit is measured in the same run, most of them by `limits.py`. The two numbers of a bench are its repeats.
"""

from collections.abc import Mapping
from typing import Final

from bench import (
    archive,
    audit,
    bars,
    board,
    cli,
    feeds,
    fleet,
    gate,
    healer,
    heard,
    jobs,
    market,
    massive,
    medic,
    memory,
    notes,
    notify,
    pings,
    signal_cycle,
    signal_log,
    signals,
    swarm,
    takeover,
)
from bench.figures import Bench, Figure

SUBSCRIBER: Final = "bare hiredis subscriber"
LOOP: Final = "empty event loop"
CRONSIM: Final = "cronsim for as many jobs"
AGENT: Final = "bare agent"
AGENTS: Final = "as many bare agents"
UVICORN: Final = "bare uvicorn"
PAGE: Final = "a page with a word"
FRAME: Final = "a frame of a page with a word"
READ: Final = "bare MGET of the same keys"
DOCUMENT: Final = "bare GET of the document for each"
BARE_CYCLE: Final = "bare loop of the same requests"
BARE_BARS: Final = "bare loop over the same bars"
BARE_LINES: Final = "bare loop over the same lines"
BARE_VOTES: Final = "bare arithmetic"
NO_THRIFT: Final = "the same without thrift"
CORE_US: Final = "µs of a core"
CORE_MS: Final = "ms of a core"
PERCENT: Final = "% of a core"
HEALER: Final = "The healer at 100,000 services"
ALERTS: Final = "Alerts, agents and takeovers"
PYTHON: Final = "python -c pass"
DEADLINES: Final = "first to last deadline"
OF_SERVICE: Final = "timeout of the service"
OF_LEASE: Final = "life of the lease"
MARKET: Final = "HTTP, feeds and the market"
LONG: Final = "Long runs"

BENCHES: Final[Mapping[str, Bench]] = {
    "heard": Bench(HEALER, heard.measure, 5, 3, {
        "rate": Figure("beats heard", "beats/s", SUBSCRIBER, goal_ratio=1.0, is_rate=True),
        "processor": Figure("a beat", CORE_US, SUBSCRIBER, goal_ratio=1.0),
    }),
    "healer": Bench(HEALER, healer.measure, 3, 1, {
        "processor": Figure("a beat of each service every 10 s", PERCENT, SUBSCRIBER, goal=5),
        "memory": Figure("memory", "MB PSS", SUBSCRIBER, goal=150),
        "start": Figure("start to watching", "s", SUBSCRIBER, goal=1.5),
        "start_processor": Figure("start to watching", "s of a core", SUBSCRIBER),
        "late": Figure("20 die: median late", "ms", LOOP, goal=20, slack=20),
        "worst": Figure("20 die: worst late", "ms", LOOP, goal=100, slack=100),
        "busy_late": Figure("beside a busy core: median late", "ms", LOOP, goal=20, slack=50),
        "busy_worst": Figure("beside a busy core: worst late", "ms", LOOP, goal=100, slack=200),
    }),
    "storm": Bench(HEALER, healer.measure_storm, 3, 1, {
        "spread": Figure("all die: first deadline to last miss", "s", DEADLINES),
        "last": Figure("all die: last miss after the last deadline", "ms", LOOP, goal=500, slack=200),
        "late": Figure("all die: median late", "ms", LOOP, slack=100),
        "p99": Figure("all die: p99 late", "ms", LOOP, goal=500, slack=200),
        "processor": Figure("a death", CORE_US, "bare pipeline of the same commands"),
        "stall": Figure("all die: event loop late, at most", "ms", LOOP, goal=50, slack=50),
    }),
    "saturation": Bench(HEALER, healer.measure_saturation, 3, 1, {
        "spread": Figure("all die in 2 s: first deadline to last miss", "s", DEADLINES),
        "late": Figure("all die in 2 s: median late", "ms", LOOP, slack=1000),
        "p99": Figure("all die in 2 s: p99 late", "ms", LOOP, slack=1000),
        "processor": Figure(
            "all die in 2 s: a death", CORE_US, "bare pipeline of the same commands", goal_ratio=5
        ),
        "stall": Figure("all die in 2 s: event loop late, at most", "ms", LOOP, goal=50, slack=50),
    }),
    "watchers": Bench(HEALER, healer.measure_watchers, 3, 1, {
        "sentinel": Figure("10,000 services: the sentinel", PERCENT, SUBSCRIBER, goal=1, slack=0.5),
        "mesh": Figure("10,000 services: mesh", PERCENT, SUBSCRIBER, goal=2, slack=0.5),
    }),
    "scrape": Bench(HEALER, healer.measure_scrapes, 3, 1, {
        "processor": Figure("a scrape of all services", "s of a core", "bare gzip of the same answer"),
        "stall": Figure("event loop late while scraped, at most", "ms", LOOP, goal=50, slack=50),
    }),
    "jobs": Bench(HEALER, jobs.measure, 3, 1, {
        "tick": Figure("10,000 jobs: longest tick at the start", CORE_MS, CRONSIM, goal=20),
        "gap": Figure("10,000 jobs: longest tick after a gap", CORE_MS, CRONSIM, goal=20),
        "start": Figure("10,000 jobs: start to watching", "s", SUBSCRIBER, goal=2),
        "start_processor": Figure("10,000 jobs: start to watching", "s of a core", SUBSCRIBER),
        "stall": Figure("10,000 jobs: event loop late after a gap, at most", "ms", LOOP, goal=50, slack=50),
    }),
    "delay": Bench(ALERTS, healer.measure_small, 3, 2, {
        "one": Figure("the only service dies: median late", "ms", LOOP, goal=20, slack=20),
        "thousand": Figure("all of 1,000 die: median late", "ms", LOOP, goal=20, slack=20),
        "thousand_p99": Figure("all of 1,000 die: p99 late", "ms", LOOP, goal=100, slack=50),
        "spread": Figure("all of 1,000 die: first deadline to last miss", "s", DEADLINES, goal=3),
    }),
    "notify": Bench(ALERTS, notify.measure, 3, 2, {
        "late": Figure("log to receiver: median", "ms", "bare XREADGROUP and POST", slack=5),
        "p99": Figure("log to receiver: p99", "ms", "bare XREADGROUP and POST", goal=50, slack=20),
        "backlog": Figure("an event of 10,000 at once", CORE_US, "bare XREADGROUP and XACK"),
        "backlog_sec": Figure("10,000 at once: the last message", "s", "time of grouping", goal=5, slack=1),
    }),
    "fleet": Bench(ALERTS, fleet.measure, 3, 2, {
        "start": Figure("marketswarm up to all up", "s", AGENTS, goal=4),
        "memory": Figure("all agents", "MB PSS", AGENTS, goal=300),
        "agent": Figure("the largest idle agent except the board", "MB PSS", AGENT, goal=35),
        "board": Figure("the idle board", "MB PSS", UVICORN, goal=60),
        "processor": Figure("all idle agents", PERCENT, AGENTS, slack=0.5),
        "median": Figure("an idle agent, the median of all", PERCENT, AGENT, goal=0.3, slack=0.2),
        "busiest": Figure("the busiest idle agent", PERCENT, AGENT, slack=0.2),
    }),
    "cli": Bench(ALERTS, cli.measure, 3, 2, {
        "status": Figure("marketswarm status", "s of a core", PYTHON, goal=0.25),
        "beat": Figure("marketswarm beat", "s of a core", PYTHON, goal=0.25),
        "ack": Figure("marketswarm ack", "s of a core", PYTHON, goal=0.25),
    }),
    "played": Bench(ALERTS, fleet.measure_board, 3, 1, {
        "memory": Figure("the board beside the recorded market", "MB PSS", UVICORN, goal=120),
    }),
    "swarm": Bench(ALERTS, swarm.measure, 2, 1, {
        "applied": Figure("5,000 agents: a reseed in force in all", "s", DOCUMENT, goal=5, slack=1),
        "bytes": Figure("5,000 agents: bytes on the bus for a reseed", "MB", DOCUMENT, goal=50, slack=5),
        "processor": Figure("an agent: a reseed", CORE_MS, DOCUMENT),
    }),
    "lease": Bench(ALERTS, takeover.measure_healer, 5, 2, {
        "takeover": Figure("a killed healer until the standby leads", "s", "life of its lease", goal=4),
        "leading": Figure("an idle healer that leads", PERCENT, "one that never renews", slack=0.2),
        "standing": Figure("one that stands by", PERCENT, "one that never renews", slack=0.2),
    }),
    "takeover": Bench(ALERTS, takeover.measure, 5, 2, {
        "share": Figure("one of three killed: its keys", "s", OF_SERVICE, goal_ratio=1.0),
        "lease": Figure("one of three killed: its lease", "s", OF_LEASE, goal_ratio=1.0),
        "stopped_share": Figure("one of three stopped: its keys", "s", OF_SERVICE, goal=1, slack=0.5),
        "stopped_lease": Figure("one of three stopped: its lease", "s", OF_LEASE, goal=1, slack=0.5),
    }),
    "medic": Bench(ALERTS, medic.measure, 3, 1, {
        "cycle": Figure("200 services in containers: a cycle", CORE_MS, BARE_CYCLE, goal=20),
        "look": Figure("200 containers: a look", CORE_MS, BARE_CYCLE),
        "memory": Figure("200 containers: their memory", CORE_MS, BARE_CYCLE),
    }),
    "notes": Bench(ALERTS, notes.measure, 3, 2, {
        "rate": Figure("items to notes", "items/s", "bare loop that copies", is_rate=True),
        "processor": Figure("an item", CORE_US, "bare loop that copies"),
        "rate_of_two": Figure("by two workers", "items/s", "bare loop that copies", is_rate=True),
    }),
    "board": Bench(MARKET, board.measure, 3, 1, {
        "paint": Figure("10,000 services: first paint", "ms", PAGE, goal=500, slack=100),
        "live": Figure("10,000 services: the page is live", "ms", PAGE, slack=200),
        "change": Figure("event to painted: p99", "ms", FRAME, goal=200, slack=100),
        "change_median": Figure("event to painted: median", "ms", FRAME, slack=50),
        "action": Figure("search, order, filter to painted: p95", "ms", FRAME, goal=100, slack=50),
        "silence": Figure("a silence: answered", "ms", UVICORN, goal=100, slack=50),
        "memory": Figure("what the page adds to the browser", "MB PSS", PAGE, goal=60),
        "processor": Figure("the board with 20 that follow", PERCENT, READ, goal=5, slack=1),
        "change_processor": Figure("the board: a change", CORE_MS, READ),
    }),
    "pings": Bench(MARKET, pings.measure, 3, 2, {
        "processor": Figure("a ping", CORE_US, UVICORN),
        "rate": Figure("pings acknowledged", "pings/s", UVICORN, goal=5000, is_rate=True),
        "spike": Figure("1,000 pings a second: p99", "ms", UVICORN, slack=50),
    }),
    "market": Bench(MARKET, market.measure, 3, 1, {
        "processor": Figure("a chart of 500 bars", CORE_US, UVICORN),
        "rate": Figure("charts", "charts/s", UVICORN, is_rate=True),
        "users": Figure("1,000 users, a chart every 4 s: p95", "ms", UVICORN, goal=200, slack=100),
        "steady": Figure("the same, when charts are in memory: p95", "ms", UVICORN, goal=200, slack=100),
        "misses": Figure("charts from the database", "%", "one in a hundred", goal=5, slack=2),
        "followers": Figure("a bar to 200 followers: p99", "ms", UVICORN, goal=200, slack=100),
        "page": Figure("the page /market: median", "ms", UVICORN, goal=1000, slack=50),
    }),
    "feeds": Bench(MARKET, feeds.measure, 3, 2, {
        "unchanged": Figure("a feed that has not changed", CORE_US, "bare request by httpx"),
        "changed": Figure("a feed with a new item", CORE_US, "feedparser alone"),
        "changed_rate": Figure("feeds with a new item", "feeds/s", "feedparser alone", is_rate=True),
    }),
    "massive": Bench(MARKET, massive.measure, 3, 2, {
        "rate": Figure("WebSocket to stream", "bars/s", "bare WebSocket and XADD", is_rate=True),
        "new": Figure("a new bar", CORE_US, "bare WebSocket and XADD"),
        "known": Figure("a bar that is known", CORE_US, "bare WebSocket and XADD"),
    }),
    "bars": Bench(MARKET, bars.measure, 3, 2, {
        "processor": Figure("a minute to 13 indicators, 6 timeframes", CORE_US, "bare XREAD and XADD"),
        "late": Figure("spread over a second: median", "ms", "bare XREAD and XADD", slack=20),
        "p99": Figure("spread over a second: p99", "ms", "bare XREAD and XADD", goal=50, slack=30),
        "burst_p99": Figure("500 at once: p99", "ms", "bare XREAD and XADD", goal=50, slack=100),
    }),
    "archive": Bench(MARKET, archive.measure, 3, 2, {
        "bars": Figure("bars from stream to committed row", "rows/s", "bare COPY", goal=20_000, is_rate=True),
        "bars_processor": Figure("a bar", CORE_US, "bare COPY"),
        "indicators": Figure("indicators to committed rows", "rows/s", "bare COPY", is_rate=True),
        "indicators_processor": Figure("the indicators of a bar", CORE_US, "bare COPY"),
    }),
    "gate": Bench(MARKET, gate.measure, 3, 1, {
        "time": Figure("500 series through the gate", "s", "limits of the slowest source", goal_ratio=1.1),
        "processor": Figure("a request", CORE_MS, "bare request by httpx"),
    }),
    "signals": Bench(MARKET, signals.measure, 3, 2, {
        "two": Figure("bars played, two rules", "bars/s", BARE_BARS, goal_ratio=1 / 0.45, is_rate=True),
        "five": Figure("bars played, five rules", "bars/s", BARE_BARS, goal_ratio=1 / 0.2, is_rate=True),
        "first": Figure("start to a first answer", "s", PYTHON, goal=1, slack=0.5),
    }),
    "audit": Bench(MARKET, audit.measure, 3, 1, {
        "month": Figure("98,000 ticks of a symbol are verified", "s", BARE_LINES, goal=10),
        "log": Figure("518,400 ticks of a symbol are verified", "s", BARE_LINES, goal=60),
        "prove": Figure("20,000 ticks of a symbol are proven", "s", "bare SELECT of the entries"),
        "one": Figure("one tick is proven", "ms", "bare SELECT of its entry", goal=5, slack=3),
    }),
    "signal_cycle": Bench(MARKET, signal_cycle.measure, 3, 2, {
        "p99": Figure("a tick: 5,000 symbols, seven votes: p99", CORE_MS, BARE_VOTES, goal=300, goal_ratio=8),
        "median": Figure("a tick of 5,000 symbols: median", CORE_MS, BARE_VOTES),
        "all": Figure("the same, and each symbol is evaluated", CORE_MS, BARE_VOTES),
        "mean": Figure("a tick of 5,000 symbols: mean", CORE_MS, NO_THRIFT, goal_ratio=0.6),
        "memory": Figure("5,000 symbols: memory, at most", "MB", NO_THRIFT),
    }),
    "signal_log": Bench(MARKET, signal_log.measure, 3, 2, {
        "places": Figure(
            "changed places of ticks to committed rows", "places/s", "bare COPY",
            goal=10_000, goal_ratio=1 / 0.15, is_rate=True,
        ),
    }),
    "many": Bench(LONG, bars.measure_many, 0, 0, {
        "minute": Figure("10,000 symbols, a minute of each in 60 s", PERCENT, "bare XREAD and XADD", goal=60),
        "final": Figure("the same, the first minute of a day", PERCENT, "bare XREAD and XADD", goal=60),
        "idle": Figure("10,000 symbols, nothing comes", PERCENT, "bare XREAD and XADD"),
        "memory": Figure("a symbol", "kB PSS", "its stored state"),
    }),
    "garbage": Bench(LONG, healer.measure_garbage, 0, 0, {
        "late": Figure("a tenth is garbage: median late", "ms", "the same without garbage", goal_ratio=1.2),
    }),
    "memory": Bench(LONG, memory.measure, 0, 0, {
        "beats": Figure("ten million beats", "MB PSS", "after a tenth of them", goal_ratio=1.05),
        "day": Figure("a simulated day", "MB PSS", "after a tenth of it", goal_ratio=1.05),
    }),
}  # fmt: skip
