"""Snapshots as examples: a small fleet in every state, one of any size, one that is hostile."""

from dataclasses import replace

from marketswarm.status.channel_records import ChannelRecord, ChannelState, ChannelStatus
from marketswarm.status.notifications import PendingDelivery, describe_hold
from marketswarm.status.service_rows import ServiceState
from services.board.fleet.snapshot import (
    BarSpan,
    BusSnapshot,
    FleetSnapshot,
    HealerView,
    LastRunView,
    ServiceSnapshot,
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
        outage="silent since" if state is ServiceState.DOWN else None,
        outage_at=AT - 604.0 if state is ServiceState.DOWN else None,
        tags=("ingest",),
        recent=(BarSpan("up", AT - 3600, AT - 600), BarSpan(kind, AT - 600)),
        uptime={
            "24h": Uptime(0.993 if state is ServiceState.DOWN else 1.0),
            "7d": Uptime(0.9991, 3600.0),
            "30d": Uptime(0.9998, 86400.0 * 9),
            "1y": Uptime(0.99987, 86400.0 * 300),
        },
    )
    held = values.get("held")
    hold = None if held is None else describe_hold(str(held))
    return replace(usual, **{"hold": hold, **values})


def make_snapshot(*services: ServiceSnapshot, **values: object) -> FleetSnapshot:
    """Return a snapshot of these services, with two buses and a healer that are well.

    The incidents follow from the services; `values` replace fields.
    """
    usual = FleetSnapshot(
        AT,
        "prod",
        12,
        services,
        (BusSnapshot("system-redis", "up"), BusSnapshot("market-redis", "up")),
        (HealerView("a1b2c3", is_leader=True, epoch=4), HealerView("d4e5f6", is_leader=False)),
        fold_incidents(services),
    )
    return replace(usual, **values)


def make_small() -> FleetSnapshot:
    """Return a fleet of eleven services, one or more in each state."""
    services = (
        make_service(
            *("rss_agg", ServiceState.DOWN),
            description="Reads news feeds",
            severity="critical",
            hosts=("db1",),
        ),
        make_service(
            "vexy_ai",
            ServiceState.DOWN,
            cause="rss_agg",
            depends_on=("rss_agg",),
            tags=("worker",),
            held="depends",
            hosts=("db1",),
        ),
        make_service(
            *("massive",),
            tags=("probe",),
            status="degraded",
            detail="2 of 9 targets do not answer",
            hosts=("web1", "web2"),
        ),
        make_service("mesh", tags=("coordinator",), detail="14 keys measured", hosts=("web1",)),
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
    return make_snapshot(
        *services,
        buses=(BusSnapshot("system-redis", "up"), BusSnapshot("market-redis", "unheard", "deaf")),
        silences=(
            SilenceView(
                "s1", ("prices", "quotes"), ("market",), AT - 600, AT + 3000, "ana", "moving the market bus"
            ),
        ),
        pending=(
            PendingDelivery(
                "m1", "slack", "rss_agg is down", AT - 590, AT - 580, AT + 30, "404: no such channel"
            ),
            PendingDelivery("m2", "email", "rss_agg is down", AT - 590),
        ),
        dead=2,
        channels={"slack": "hooks.slack.com", "email": "mail.example.org", "night": "ntfy.sh"},
        channel_statuses=make_channels(),
        notes=("the healer does not hear bus market-redis (deaf), so its services are unknown",),
    )


def make_channels(text: str = "") -> tuple[ChannelStatus, ...]:
    """Return three channels, one that fails and one that sent nothing yet; `text` is added to all words."""
    broken = ChannelRecord(
        18, 3, 2, AT - 90_000, "mesh is up again" + text, AT - 580, "rss_agg is down" + text, "404" + text
    )
    works = ChannelRecord(31, 1, 0, AT - 560, "rss_agg is down" + text, AT - 9000, "x", "timeout")
    return (
        ChannelStatus(
            "slack" + text,
            "hooks.slack.com" + text,
            ChannelState.BROKEN,
            broken,
            1,
            "404: no such channel" + text,
            AT + 30,
        ),
        ChannelStatus("email", "mail.example.org", ChannelState.WORKS, works),
        ChannelStatus("night", "ntfy.sh", ChannelState.UNUSED),
    )


def make_well() -> FleetSnapshot:
    """Return the shipped fleet, all up."""
    names = ("rss_agg", "massive", "mesh", "vexy_ai", "healer", "sentinel", "notifier")
    return make_snapshot(*(make_service(name, uptime={"24h": Uptime(1.0, 80000.0)}) for name in names))


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
    return make_snapshot(*services)


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
            hosts=(text,),
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
        pending=(PendingDelivery("p", HOSTILE[0], HOSTILE[1], AT, AT, AT, HOSTILE[2]),),
        notes=HOSTILE,
        channels={HOSTILE[0]: HOSTILE[1]},
        channel_statuses=make_channels(HOSTILE[0]),
    )
