"""Example snapshots for the board's tests and pages: small ones, large ones, one in which all is wrong."""

from services.board.snapshot import (
    WINDOWS,
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
    find_cause,
    fold_incidents,
)

AT = 1_790_000_000.0
HOSTILE = "<script>alert(1)</script>\"'&\\x1b[31m"


def make_service(svc: str, state: ServiceState = ServiceState.UP, **fields: object) -> ServiceSnapshot:
    """Return a service with a beat two seconds ago, an hour of spans and an uptime for each window."""
    down_at = AT - 300.0
    is_down = state is ServiceState.DOWN
    given: dict[str, object] = {
        "bus": "system-redis",
        "timeout_sec": 30.0,
        "last_beat_at": down_at - 30.0 if is_down else AT - 2.0,
        "instances": 0 if is_down else 1,
        "boot": "7d026c7aa1b2",
        "rev": 3,
        "restarts": 0,
        "status": "ok",
        "since": down_at - 30.0 if is_down else None,
        "recent": (
            BarSpan("unknown", AT - 3600.0, AT - 3000.0),
            BarSpan("up", AT - 3000.0, down_at if is_down else None),
            *((BarSpan("down", down_at),) if is_down else ()),
        ),
        "uptime": {window: Uptime(0.9987, 600.0) for window in WINDOWS},
        **fields,
    }
    return ServiceSnapshot(svc, state, **given)  # type: ignore[arg-type]


def make_snapshot(*services: ServiceSnapshot, at: float = AT, **fields: object) -> FleetSnapshot:
    """Return a snapshot with these services, two buses and a healer; incidents follow from the services."""
    given: dict[str, object] = {
        "fleet": "example",
        "revision": 3,
        "services": services,
        "buses": (BusSnapshot("system-redis", "up"), BusSnapshot("market-redis", "up")),
        "healers": (HealerView("342dc585a853", is_leader=True, epoch=1, host="vm"),),
        "incidents": fold_incidents(services),
        **fields,
    }
    return FleetSnapshot(at, **given)  # type: ignore[arg-type]


def make_small_fleet() -> FleetSnapshot:
    """Return seven services that are all up, as `make run` shows them."""
    names = ("rss_agg", "massive", "mesh", "vexy_ai", "healer", "sentinel", "notifier")
    return make_snapshot(
        *(make_service(svc, tags=("example",), description=f"What {svc} does") for svc in names)
    )


def make_troubled_fleet() -> FleetSnapshot:
    """Return a fleet with a service in each state, a folded cause, a bus away and hostile text."""
    depends_on = {"web": ("db",), "shop": ("web",), "cache": ()}
    down = {"db", "web", "shop", "cache"}

    def make_down(svc: str, **fields: object) -> ServiceSnapshot:
        """Return a service that is down, with its cause."""
        needs = depends_on.get(svc, ())
        return make_service(
            svc, ServiceState.DOWN, depends_on=needs, cause=find_cause(svc, depends_on, down), **fields
        )

    services = (
        make_down("db", severity="critical", tags=("store",)),
        make_down("web", tags=("front",)),
        make_down("shop", tags=("front",)),
        make_down("cache", acked_by="ann", held="acked", held_until=AT + 600.0),
        make_service(
            "backup",
            ServiceState.FAILED,
            last_run=LastRunView(
                ok=False, text="exit 3 after 12.4 s", ended_at=AT - 60.0, took_sec=12.4, exit_code=3
            ),
        ),
        make_service("old", ServiceState.SILENT, last_beat_at=AT - 90.0),
        make_service("shy", ServiceState.UNWATCHABLE),
        make_service(
            "far", ServiceState.UNKNOWN, bus="market-redis", last_beat_at=None, uptime={}, recent=()
        ),
        make_service("evil", status="degraded", detail=HOSTILE, description=HOSTILE, tags=(HOSTILE,)),
        make_service("fine", instances=2, replicas=3, restarts=4),
    )
    return make_snapshot(
        *services,
        buses=(BusSnapshot("system-redis", "up"), BusSnapshot("market-redis", "away", "connection refused")),
        healers=(
            HealerView("342dc585a853", is_leader=True, epoch=4, host="vm"),
            HealerView("99aa00bb11cc", is_leader=False, host="vm2"),
        ),
        silences=(
            SilenceView("s1", ("cache*",), ("front",), AT - 60.0, AT + 3600.0, "ann", "moving the cache"),
        ),
        pending=(PendingView("m1", "webhook", "db is down", AT - 200.0, AT - 190.0, AT + 30.0, None),),
        dead=2,
        notes=("bus market-redis does not answer: connection refused",),
    )


def make_large_fleet(count: int = 1000) -> FleetSnapshot:
    """Return `count` services of ten tags, one of fifty of them down."""
    return make_snapshot(
        *(
            make_service(
                f"svc-{n:05d}",
                ServiceState.DOWN if n % 50 == 7 else ServiceState.UP,
                tags=(f"team-{n % 10}",),
                description=f"Example service number {n}",
            )
            for n in range(count)
        )
    )
