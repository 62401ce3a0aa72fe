"""Snapshots as examples: a fleet of seven in every state, one of any size, and one that is hostile."""

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any, cast

from services.board.assets import find_assets_path
from services.board.pages import (
    AlertPage,
    AlertQuery,
    AlertsPage,
    AlertView,
    DiffLine,
    ErrorPage,
    FleetQuery,
    FlowEnd,
    FlowLine,
    Frame,
    IncidentsPage,
    NotificationsPage,
    Page,
    PublicPage,
    PublicService,
    RevisionView,
    ServicePage,
    TopologyPage,
    TruthPage,
    select_services,
)
from services.board.past import OutageView, Past
from services.board.snapshot import (
    BarSpan,
    BusSnapshot,
    FleetSnapshot,
    HealerView,
    LastRunView,
    PendingView,
    ServiceSnapshot,
    ServiceState,
    SilenceView,
    Uptime,
    fold_incidents,
)

AT = 1_793_000_000.0
HOSTILE = (
    "<script>window.hurt=1</script>",
    '"><img src=x onerror=window.hurt=1>',
    "' onmouseover='window.hurt=1",
    "{{ 7*7 }}</title><svg onload=window.hurt=1>",
    "javascript:window.hurt=1",
    "\N{RIGHT-TO-LEFT OVERRIDE}desrever \N{ZERO WIDTH SPACE}\x1b[31m&amp;</td></tr></table>",
)


def make_service(svc: str, state: ServiceState = ServiceState.UP, **values: object) -> ServiceSnapshot:
    """Return a service that has been in its state for ten minutes, and up before; `values` replace fields."""
    kind = (
        "up"
        if state in (ServiceState.UP, ServiceState.FAILED)
        else "down"
        if state is ServiceState.DOWN
        else "unknown"
    )
    usual = ServiceSnapshot(
        svc,
        state,
        "system-redis",
        30.0,
        last_beat_at=AT - (604.0 if state is ServiceState.DOWN else 4.0),
        instances=1,
        replicas=1,
        boot="b7c1d2e3",
        rev=12,
        restarts=0,
        status="ok",
        since=AT - 604.0 if state is ServiceState.DOWN else None,
        tags=("ingest",),
        recent=(BarSpan("up", AT - 3600, AT - 600), BarSpan(kind, AT - 600)),
        uptime={
            "24h": Uptime(0.993 if state is ServiceState.DOWN else 1.0),
            "7d": Uptime(0.9991, 3600.0),
            "30d": Uptime(0.9998, 86400.0 * 9),
            "1y": Uptime(0.99987, 86400.0 * 300),
        },
    )
    return replace(usual, **values)


def make_small() -> FleetSnapshot:
    """Return a fleet of ten services, one or more in each state."""
    services = (
        make_service("rss_agg", ServiceState.DOWN, description="Reads news feeds", severity="critical"),
        make_service(
            "vexy_ai",
            ServiceState.DOWN,
            cause="rss_agg",
            depends_on=("rss_agg",),
            tags=("worker",),
            held="depends",
        ),
        make_service("massive", tags=("probe",), status="degraded", detail="2 of 9 targets do not answer"),
        make_service("mesh", tags=("coordinator",), detail="14 keys measured"),
        make_service(
            "nightly-backup",
            ServiceState.FAILED,
            tags=("job",),
            last_run=LastRunView(ok=False, text="exit 3 after 12.4 s", ended_at=AT - 4000),
            recent=(
                BarSpan("unknown", AT - 3600, AT - 2900),
                BarSpan("up", AT - 2900, AT - 700),
                BarSpan("up", AT - 700),
            ),
        ),
        make_service(
            "prices", ServiceState.SILENT, bus="market-redis", last_beat_at=AT - 75, tags=("market",)
        ),
        make_service("quotes", ServiceState.UNWATCHABLE, bus="market-redis", tags=("market",)),
        make_service(
            "archive",
            ServiceState.UNKNOWN,
            bus="market-redis",
            last_beat_at=None,
            instances=None,
            rev=None,
            restarts=None,
            status=None,
            recent=(),
            uptime={},
            tags=(),
        ),
        make_service("healer", tags=("monitor",)),
        make_service(
            "sentinel",
            tags=("monitor",),
            restarts=3,
            recent=(
                BarSpan("up", AT - 3600, AT - 1800),
                BarSpan("down", AT - 1800, AT - 1795),
                BarSpan("up", AT - 1795, AT - 900),
                BarSpan("down", AT - 900, AT - 780),
                BarSpan("up", AT - 780),
            ),
        ),
        make_service("notifier", tags=("monitor",)),
    )
    return FleetSnapshot(
        AT,
        "prod",
        12,
        services,
        (BusSnapshot("system-redis", "up"), BusSnapshot("market-redis", "unheard", "deaf")),
        (HealerView("a1b2c3", is_leader=True, epoch=4), HealerView("d4e5f6", is_leader=False)),
        fold_incidents(services),
        (
            SilenceView(
                "s1", ("prices", "quotes"), ("market",), AT - 600, AT + 3000, "ana", "moving the market bus"
            ),
        ),
        (
            PendingView(
                "m1", "slack", "rss_agg is down", AT - 590, AT - 580, AT + 30, "404: no such channel"
            ),
            PendingView("m2", "email", "rss_agg is down", AT - 590),
        ),
        2,
        ("the healer does not hear bus market-redis (deaf): nobody knows of its services",),
    )


def make_well() -> FleetSnapshot:
    """Return the shipped fleet, all up."""
    small = make_small()
    names = ("rss_agg", "massive", "mesh", "vexy_ai", "healer", "sentinel", "notifier")
    return replace(
        small,
        services=tuple(make_service(name, uptime={"24h": Uptime(1.0, 80000.0)}) for name in names),
        buses=(BusSnapshot("system-redis", "up"), BusSnapshot("market-redis", "up")),
        incidents=(),
        pending=(),
        silences=(),
        dead=0,
        notes=(),
    )


def make_large(count: int, down: int = 7) -> FleetSnapshot:
    """Return a fleet of `count` services, `down` of which are down and some of which have been."""
    tags = ("ingest", "worker", "probe", "market", "web")
    services = [
        make_service(
            f"{tags[number % 5]}-{number:05}",
            ServiceState.DOWN
            if number % max(1, count // max(1, down)) == 3 and number // max(1, count // max(1, down)) < down
            else ServiceState.UP,
            tags=(tags[number % 5],),
            bus="market-redis" if number % 3 == 0 else "system-redis",
            last_beat_at=AT - number % 10,
            restarts=number % 7 if number % 50 == 0 else 0,
            detail=f"{number % 90} of 90 items" if number % 4 == 0 else None,
        )
        for number in range(count)
    ]
    return replace(make_well(), services=tuple(services), incidents=fold_incidents(services))


def make_hostile() -> FleetSnapshot:
    """Return a fleet whose every text is markup, as if nothing had been checked before."""
    services = tuple(
        make_service(
            text,
            ServiceState.DOWN if number % 2 else ServiceState.UP,
            description=text,
            detail=text,
            status=text,
            bus=text,
            boot=text,
            tags=(text,),
            cause=text,
            acked_by=text,
            held=text,
            severity=text,
            depends_on=(text,),
            last_run=LastRunView(ok=False, text=text),
        )
        for number, text in enumerate(HOSTILE)
    )
    return replace(
        make_small(),
        fleet=HOSTILE[3],
        services=services,
        incidents=fold_incidents(replace(one, cause=None) for one in services),
        buses=(BusSnapshot(HOSTILE[0], "away", HOSTILE[1]),),
        healers=(HealerView(HOSTILE[0], is_leader=True), HealerView(HOSTILE[1], is_leader=False)),
        silences=(SilenceView("s", HOSTILE, HOSTILE, AT, AT, HOSTILE[0], HOSTILE[1]),),
        pending=(PendingView("p", HOSTILE[0], HOSTILE[1], AT, AT, AT, HOSTILE[2]),),
        notes=HOSTILE,
    )


def make_events(snapshot: FleetSnapshot) -> tuple[AlertView, ...]:
    """Return events on the alert log, some for each service that is down."""
    down = [one for one in snapshot.services if one.state is ServiceState.DOWN]
    return tuple(
        event
        for number, one in enumerate(down)
        for event in (
            AlertView(
                f"{one.boot or 'x'}-{number}-2",
                "heartbeat_miss",
                one.svc,
                AT - 574 - number,
                f"{one.svc} is down",
                f"no beat for 31.2 s (timeout 30 s) {one.detail or ''}",
                is_bad=True,
                severity=one.severity,
                by="healer",
                host=one.boot,
            ),
            AlertView(
                f"{number}-1",
                "heartbeat_ok",
                one.svc,
                AT - 90_000,
                f"{one.svc} is up again",
                "was down for 4 min 10 s",
                is_bad=False,
                by="healer",
                down_sec=250.0,
            ),
            AlertView(
                f"{number}-0", "heartbeat_gap", one.svc, AT - 99_000, f"{one.svc} had a gap", "of 40 s", None
            ),
        )
    )


def make_lines(snapshot: FleetSnapshot) -> tuple[FlowLine, ...]:
    """Return the flows of the shipped fleet, with one that is slow; of others, one key for each service."""
    known = {one.svc: one.state for one in snapshot.services}

    def end(svc: str, **values: Any) -> FlowEnd:
        return FlowEnd(svc, known.get(svc, ServiceState.UP), **values)

    if "massive" not in known:
        names = list(known)
        return tuple(
            FlowLine(bus=one, key=one, writers=(end(one),), readers=(end(two),), kind=one, faults=(two,))
            for one, two in pairwise(names)
        )
    vexy = {"group": "vexy_ai", "pending": 3, "rate": 1.2}
    return (
        FlowLine(
            "market-redis",
            "rss:items",
            (end("rss_agg"),),
            (end("vexy_ai", lag=412, **vexy),),
            "stream",
            18_204,
            0.0,
            640.0,
            ("vexy_ai is 412 entries behind, and reads 1.2 a second",),
        ),
        FlowLine(
            "market-redis",
            "massive:probes",
            (end("massive"),),
            (end("vexy_ai", lag=0, **vexy),),
            "stream",
            9_120,
            0.6,
            1.4,
        ),
        FlowLine(
            "market-redis",
            "market:bars",
            (end("massive"),),
            (end("vexy_ai", lag=0, **vexy),),
            "stream",
            120,
            0.1,
            31.0,
        ),
        FlowLine("market-redis", "vexy:notes", (end("vexy_ai"),), (), "stream", 812, 0.2, 12.0),
        FlowLine(
            "system-redis",
            "healer:alerts",
            (end("healer"), end("sentinel")),
            (end("notifier"),),
            "stream",
            44,
            0.0,
            590.0,
        ),
        FlowLine("system-redis", "mesh:topology", (end("mesh"),), (), "string"),
    )


def make_past(one: ServiceSnapshot) -> Past:
    """Return an outage that lasts, if it does, and two that are over."""
    over = (OutageView(AT - 50_000, AT - 49_000), OutageView(AT - 900_000, AT - 870_000))
    now = (OutageView(AT - 604, None),) if one.state is ServiceState.DOWN else ()
    day = (
        BarSpan("unknown", AT - 86_400, AT - 60_000),
        BarSpan("up", AT - 60_000, AT - 50_000),
        BarSpan("down", AT - 50_000, AT - 49_000),
        BarSpan("up", AT - 49_000),
    )
    month = (
        BarSpan("up", AT - 2e6, AT - 900_000),
        BarSpan("down", AT - 900_000, AT - 870_000),
        BarSpan("up", AT - 870_000),
    )
    return Past(now + over, day, month)


def make_pages(snapshot: FleetSnapshot) -> dict[str, Callable[[Frame, dict[str, str]], Page]]:
    """Return what makes each page, by its path; the parameters have the rest of the path as `rest`."""
    events = make_events(snapshot)
    text = '{\n  "version": 1,\n  "fleet": "prod",\n  "services": {"rss_agg": {"tags": ["ingest"]}}\n}'
    hostile = snapshot.services[0].detail or "" if snapshot.services else ""

    def show_fleet(frame: Frame, params: dict[str, str]) -> Page:
        choice = FleetQuery(
            text=params.get("text", ""),
            states=tuple(ServiceState(each) for each in params.get("states", "").split(",") if each),
            tag=params.get("tag", ""),
            sort=cast("Any", params.get("sort", "state")),
            group=cast("Any", params.get("group", "")),
            start=int(params.get("start", "0")),
            wall="wall" in params,
        )
        return select_services(snapshot, choice, frame)

    def show_service(frame: Frame, params: dict[str, str]) -> Page:
        one = snapshot.find(params["rest"]) or snapshot.services[0]
        mine = tuple(each for each in events if each.svc == one.svc)
        return ServicePage(
            replace(frame, title=one.svc), one, mine, text, ("vexy_ai", "archive"), make_past(one)
        )

    def show_alerts(frame: Frame, params: dict[str, str]) -> Page:
        if params["rest"]:
            return AlertPage(
                replace(frame, title=events[0].title), events[0], text + hostile, ("system-redis",)
            )
        types = ("heartbeat_miss", "heartbeat_ok")
        chosen = AlertQuery(params.get("svc", ""), params.get("type", ""))
        found = tuple(each for each in events if chosen.svc in ("", each.svc))
        return AlertsPage(
            frame, chosen, found, "/alerts?before=1", types, {"market-redis": hostile} if hostile else {}
        )

    def show_truth(frame: Frame, _params: dict[str, str]) -> Page:
        revisions = tuple(
            RevisionView(number, AT - 9e4 * (13 - number), "ana@desk" + hostile, "9f" * 32)
            for number in (12, 11, 10)
        )
        diff = (
            DiffLine("@", "services.rss_agg"),
            DiffLine(" ", '"heartbeat": {'),
            DiffLine("-", '  "interval_sec": 30'),
            DiffLine("+", '  "interval_sec": 10' + hostile),
        )
        return TruthPage(frame, text + hostile, revisions, 11, 12, diff)

    return {
        "/": show_fleet,
        "/services": show_service,
        "/incidents": lambda frame, _: IncidentsPage(frame),
        "/notifications": lambda frame, _: NotificationsPage(frame),
        "/alerts": show_alerts,
        "/topology": lambda frame, _: TopologyPage(
            frame, make_lines(snapshot), (), (hostile,) if hostile else ()
        ),
        "/truth": show_truth,
        "/public": lambda _frame, _: PublicPage(
            snapshot.fleet,
            snapshot.at,
            tuple(PublicService(one.svc, one.state, 0.9993) for one in snapshot.services[:5]),
            find_assets_path(),
        ),
        "/missing": lambda _frame, _: ErrorPage(
            404, "There is no such page", hostile or "nothing is here", find_assets_path()
        ),
    }
