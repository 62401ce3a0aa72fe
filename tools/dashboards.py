"""Write the four dashboards of deploy/grafana/dashboards.

    .venv/bin/python tools/dashboards.py             writes the files
    .venv/bin/python tools/dashboards.py --check     ends with code 1 if a file is not current

The files are dashboards in Grafana's JSON model, schema version 41, for Grafana 12.
`tests/deploy/test_dashboard_queries.py` runs every query of them against a Prometheus.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import orjson

ROOT: Final = Path(__file__).parents[1]
FOLDER: Final = ROOT / "deploy" / "grafana" / "dashboards"
SCHEMA_VERSION: Final = 41
GRID_WIDTH: Final = 24
STAT_HEIGHT: Final = 4
GRAPH_HEIGHT: Final = 8
DATASOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}

GREEN, ORANGE, RED, BLUE = "green", "orange", "red", "blue"
Steps = tuple[tuple[float | None, str], ...]
WELL_AT_0: Final[Steps] = ((None, GREEN), (1, RED))
WELL_AT_1: Final[Steps] = ((None, RED), (1, GREEN))
WARN_ABOVE_0: Final[Steps] = ((None, GREEN), (1, ORANGE))
PLAIN: Final[Steps] = ((None, BLUE),)
UP_OR_DOWN: Final = {"0": ("down", RED), "1": ("up", GREEN)}
YES_OR_NO: Final = {"0": ("no", GREEN), "1": ("yes", RED)}
LEADS: Final = {"0": ("stands by", BLUE), "1": ("leads", GREEN)}

LAG_P99: Final = (
    "histogram_quantile(0.99, sum by (le, instance)"
    " (rate(marketswarm_event_loop_lag_seconds_bucket[$__rate_interval])))"
)
OF_AGENT: Final = "* on (instance) group_left (agent) marketswarm_agent_info"
"""Give the series of an instance the name of its agent as a label; the value stays."""


@dataclass(frozen=True, slots=True)
class Query:
    """A PromQL expression, and the legend of its series."""

    expr: str
    legend: str = ""


@dataclass(frozen=True, slots=True)
class Panel:
    """A panel. `mappings` are texts and colours of single values, `steps` colours from a value on."""

    title: str
    description: str
    unit: str
    queries: tuple[Query, ...]
    kind: Literal["timeseries", "stat", "state-timeline", "bargauge"] = "timeseries"
    width: int = 12
    steps: Steps = PLAIN
    mappings: tuple[tuple[str, tuple[str, str]], ...] = ()

    @property
    def height(self) -> int:
        return STAT_HEIGHT if self.kind == "stat" else GRAPH_HEIGHT


@dataclass(frozen=True, slots=True)
class Variable:
    """A variable that the reader chooses from the values of a label."""

    name: str
    label: str
    metric: str
    of: str
    several: bool = False


@dataclass(frozen=True, slots=True)
class Dashboard:
    """A dashboard: panels by the title of their row."""

    name: str
    title: str
    description: str
    rows: tuple[tuple[str, tuple[Panel, ...]], ...]
    variables: tuple[Variable, ...] = ()


def graph(title: str, description: str, unit: str, *queries: tuple[str, str], width: int = 12) -> Panel:
    return Panel(title, description, unit, tuple(Query(*one) for one in queries), width=width)


def stat(
    title: str,
    description: str,
    unit: str,
    expr: str,
    steps: Steps = PLAIN,
    *,
    legend: str = "",
    width: int = 4,
    mappings: dict[str, tuple[str, str]] | None = None,
) -> Panel:
    """Return a panel with the last value in large figures, one for each series."""
    pairs = tuple((mappings or {}).items())
    return Panel(title, description, unit, (Query(expr, legend),), "stat", width, steps, pairs)


def timeline(
    title: str,
    description: str,
    mappings: dict[str, tuple[str, str]],
    *queries: tuple[str, str],
    width: int = 24,
) -> Panel:
    found = tuple(Query(*one) for one in queries)
    return Panel(title, description, "none", found, "state-timeline", width, PLAIN, tuple(mappings.items()))


def quantiles(metric: str, by: str = "", where: str = "") -> tuple[tuple[str, str], tuple[str, str]]:
    """Return queries of the median and of the 99th percentile of a histogram."""
    buckets = f"sum by (le{by}) (rate({metric}_bucket{where}[$__rate_interval]))"
    legend = "{{" + by.strip(", ") + "}} " if by else ""
    return (
        (f"histogram_quantile(0.5, {buckets})", f"{legend}median"),
        (f"histogram_quantile(0.99, {buckets})", f"{legend}p99"),
    )


FLEET: Final = Dashboard(
    "fleet",
    "MarketSwarm: fleet",
    "Which services are up, how well the healer hears them, and how the agents are.",
    (
        (
            "Now",
            (
                stat(
                    "Up", "Services whose beats are heard.", "none", 'max(marketswarm_services{verdict="up"})'
                ),
                stat(
                    "Down",
                    "Services that were declared down and have not come back.",
                    "none",
                    'max(marketswarm_services{verdict="down"})',
                    WELL_AT_0,
                ),
                stat(
                    "Unknown",
                    "Services about which nothing is known yet: neither a beat nor a miss.",
                    "none",
                    'max(marketswarm_services{verdict="unknown"})',
                    WARN_ABOVE_0,
                ),
                stat(
                    "Healers that lead",
                    "Healers that publish verdicts on at least one bus. None: misses are not published.",
                    "none",
                    "count(max by (instance) (marketswarm_leader) == 1) or vector(0)",
                    WELL_AT_1,
                ),
                stat(
                    "Agents that answer",
                    "Agents that Prometheus can ask for their metrics.",
                    "none",
                    "count(marketswarm_agent_info)",
                ),
                stat(
                    "Revisions apart",
                    "Newest revision of the truth in force, less the oldest. More than 0 for long: an agent is stuck.",
                    "none",
                    "max(marketswarm_truth_revision) - min(marketswarm_truth_revision)",
                    WARN_ABOVE_0,
                ),
            ),
        ),
        (
            "Services",
            (
                timeline(
                    "Up and down",
                    "Each service over time. A gap: nothing was known of it, or the healer was not scraped.",
                    UP_OR_DOWN,
                    ("min by (svc) (marketswarm_service_up)", "{{svc}}"),
                ),
                Panel(
                    "Silence",
                    "How long ago the last beat of each service was heard.",
                    "s",
                    (
                        Query(
                            "time() - max by (svc) (marketswarm_service_last_beat_timestamp_seconds)",
                            "{{svc}}",
                        ),
                    ),
                    "bargauge",
                ),
                Panel(
                    "Misses",
                    "How often each service was declared down in the time that is shown.",
                    "none",
                    (
                        Query(
                            "max by (svc) (increase(marketswarm_service_misses_total[$__range]))",
                            "{{svc}}",
                        ),
                    ),
                    "bargauge",
                    steps=WARN_ABOVE_0,
                ),
                timeline(
                    "Alerts that fire",
                    "Rules of deploy/prometheus/rules.yml that fire; empty while all is well.",
                    {"1": ("fires", RED)},
                    (
                        'max by (alertname, svc, bus, channel) (ALERTS{alertstate="firing"})',
                        "{{alertname}} {{svc}}{{bus}}{{channel}}",
                    ),
                ),
            ),
        ),
        (
            "How well the fleet is heard",
            (
                graph(
                    "Beats heard",
                    "Beats a second that healer and sentinel heard, of all services.",
                    "ops",
                    (
                        f"rate(marketswarm_beats_heard_total[$__rate_interval]) {OF_AGENT}",
                        "{{agent}} {{instance}}",
                    ),
                ),
                graph(
                    "Beats that were wrong",
                    "Payloads that are no beats, beats heard a second time, and beats that only beat:<svc> knew of.",
                    "ops",
                    ("sum(rate(marketswarm_beats_malformed_total[$__rate_interval]))", "malformed"),
                    ("sum(rate(marketswarm_beats_replayed_total[$__rate_interval]))", "replayed"),
                    ("sum(rate(marketswarm_beats_unheard_total[$__rate_interval]))", "unheard"),
                ),
                graph(
                    "From deadline to alert log",
                    "How long after a service's deadline a bus had its miss on the log. No line: no miss lately.",
                    "s",
                    *quantiles("marketswarm_verdict_delay_seconds"),
                ),
                graph(
                    "Flow between services",
                    "What mesh finds wrong with streams and their readers, by kind.",
                    "none",
                    ("max by (what) (marketswarm_mesh_flow_faults)", "{{what}}"),
                ),
            ),
        ),
        (
            "Agents",
            (
                timeline(
                    "Degraded",
                    "Agents whose own beats say that they don't work as they should.",
                    YES_OR_NO,
                    (f"marketswarm_degraded {OF_AGENT}", "{{agent}} {{instance}}"),
                ),
                graph(
                    "CPU",
                    "Share of one core that each agent takes.",
                    "percentunit",
                    (
                        f"rate(process_cpu_seconds_total[$__rate_interval]) {OF_AGENT}",
                        "{{agent}} {{instance}}",
                    ),
                ),
                graph(
                    "Memory",
                    "Resident memory of each agent.",
                    "bytes",
                    (f"process_resident_memory_bytes {OF_AGENT}", "{{agent}} {{instance}}"),
                ),
                graph(
                    "Event loop lag",
                    "How late the event loop of each agent came to what was due: 99th percentile.",
                    "s",
                    (
                        f"{LAG_P99} {OF_AGENT}",
                        "{{agent}} {{instance}}",
                    ),
                ),
                graph(
                    "Revision in force",
                    "Revision of the truth that each agent goes by.",
                    "none",
                    (f"marketswarm_truth_revision {OF_AGENT}", "{{agent}} {{instance}}"),
                ),
                graph(
                    "History behind",
                    "How long ago each board had recorded the alert log to its end.",
                    "s",
                    (f"marketswarm_board_history_behind_seconds {OF_AGENT}", "{{agent}} {{instance}}"),
                ),
            ),
        ),
    ),
)

OF_SERVICE: Final = '* on (instance) group_left (agent) marketswarm_agent_info{agent="$svc"}'
"""Keep the series of the instances of the chosen service alone."""

SERVICE: Final = Dashboard(
    "service",
    "MarketSwarm: one service",
    "One service as the healer, mesh and its own processes see it. Its own panels need METRICS_PORT in its environment.",
    (
        (
            "$svc, as others see it",
            (
                stat(
                    "State",
                    "Up or down by the healer's verdict.",
                    "none",
                    'min(marketswarm_service_up{svc="$svc"})',
                    mappings=UP_OR_DOWN,
                ),
                stat(
                    "Silence",
                    "How long ago its last beat was heard.",
                    "s",
                    'time() - max(marketswarm_service_last_beat_timestamp_seconds{svc="$svc"})',
                ),
                stat(
                    "Time up",
                    "Share of the time shown in which it was up. Time in which nothing was known does not count.",
                    "percentunit",
                    'avg_over_time(min(marketswarm_service_up{svc="$svc"})[$__range:])',
                ),
                stat(
                    "Misses",
                    "How often it was declared down in the time that is shown.",
                    "none",
                    'max(increase(marketswarm_service_misses_total{svc="$svc"}[$__range]))',
                    WARN_ABOVE_0,
                ),
                stat(
                    "Instances",
                    "Processes of the service that run, as mesh sees them.",
                    "none",
                    'max(marketswarm_mesh_instances{svc="$svc"})',
                ),
                stat(
                    "Clock",
                    "How far its clock is ahead of mesh's; of several instances, that which is off most.",
                    "s",
                    'max(marketswarm_mesh_clock_skew_seconds{svc="$svc"})',
                ),
                timeline(
                    "Up and down",
                    "Its state over time. A gap: nothing was known of it.",
                    UP_OR_DOWN,
                    ('min by (svc) (marketswarm_service_up{svc="$svc"})', "{{svc}}"),
                ),
                graph(
                    "Beats",
                    "Beats a second by the service's own count.",
                    "ops",
                    ('max(rate(marketswarm_service_beats_total{svc="$svc"}[$__rate_interval]))', "beats"),
                ),
                graph(
                    "Silence over time",
                    "Time since its last beat at each moment: a saw of the interval's height while all is well.",
                    "s",
                    (
                        'time() - max(marketswarm_service_last_beat_timestamp_seconds{svc="$svc"})',
                        "silence",
                    ),
                ),
                graph(
                    "Entries not yet read",
                    "Entries of each stream that the service's group has not been given yet.",
                    "none",
                    (
                        'max by (bus, key) (marketswarm_mesh_reader_lag_entries{svc="$svc"})',
                        "{{key}} on {{bus}}",
                    ),
                ),
                graph(
                    "Oldest entry not settled",
                    "Age of the oldest entry of each stream that the service's group has not settled.",
                    "s",
                    (
                        'max by (bus, key) (marketswarm_mesh_reader_oldest_seconds{svc="$svc"})',
                        "{{key}} on {{bus}}",
                    ),
                ),
            ),
        ),
        (
            "$svc, as its processes see themselves",
            (
                stat(
                    "Runs for",
                    "Time since each process of the service began.",
                    "s",
                    f"(time() - marketswarm_agent_start_time_seconds) {OF_SERVICE}",
                    legend="{{instance}}",
                    width=6,
                ),
                stat(
                    "Revision",
                    "Revision of the truth in force.",
                    "none",
                    f"marketswarm_truth_revision {OF_SERVICE}",
                    legend="{{instance}}",
                    width=6,
                ),
                stat(
                    "Degraded",
                    "Yes while its beats say that it does not work as it should.",
                    "none",
                    f"marketswarm_degraded {OF_SERVICE}",
                    legend="{{instance}}",
                    width=6,
                    mappings=YES_OR_NO,
                ),
                stat(
                    "Beats refused",
                    "Beats that the bus did not take in the time that is shown.",
                    "none",
                    f"increase(marketswarm_beats_failed_total[$__range]) {OF_SERVICE}",
                    WARN_ABOVE_0,
                    legend="{{instance}}",
                    width=6,
                ),
                graph(
                    "CPU",
                    "Share of one core that each process takes.",
                    "percentunit",
                    (f"rate(process_cpu_seconds_total[$__rate_interval]) {OF_SERVICE}", "{{instance}}"),
                ),
                graph(
                    "Memory",
                    "Resident memory of each process.",
                    "bytes",
                    (f"process_resident_memory_bytes {OF_SERVICE}", "{{instance}}"),
                ),
                graph(
                    "Event loop",
                    "How late the event loop came to what was due (99th percentile), and for how long it hangs now.",
                    "s",
                    (
                        f"{LAG_P99} {OF_SERVICE}",
                        "{{instance}} lag",
                    ),
                    (f"marketswarm_event_loop_stall_seconds {OF_SERVICE}", "{{instance}} hangs"),
                ),
                graph(
                    "Values that could not be used",
                    "Values read back from a bus that were skipped or replaced, by their key.",
                    "ops",
                    (
                        f"rate(marketswarm_state_unusable_total[$__rate_interval]) {OF_SERVICE}",
                        "{{instance}} {{key}}",
                    ),
                ),
            ),
        ),
    ),
    (Variable("svc", "Service", "marketswarm_service_up", "svc"),),
)

BUSES: Final = Dashboard(
    "buses",
    "MarketSwarm: buses",
    "Each bus as healer and sentinel hear it, what waits for it, and the streams on it.",
    (
        (
            "Now",
            (
                stat(
                    "State",
                    "Whether each bus is heard: its canaries come back.",
                    "none",
                    'min by (bus) (marketswarm_bus_up{bus=~"$bus"})',
                    legend="{{bus}}",
                    width=8,
                    mappings=UP_OR_DOWN,
                ),
                stat(
                    "Verdicts that wait",
                    "Verdicts that the healer has yet to publish; on a standby, what it would have to publish.",
                    "none",
                    'max by (bus) (marketswarm_untold_verdicts{bus=~"$bus"})',
                    WARN_ABOVE_0,
                    legend="{{bus}}",
                    width=8,
                ),
                stat(
                    "Events not yet read",
                    "Events on the alert log that the notifier has not acknowledged.",
                    "none",
                    'max by (bus) (marketswarm_log_unread_events{bus=~"$bus"})',
                    legend="{{bus}}",
                    width=8,
                ),
            ),
        ),
        (
            "Listening",
            (
                timeline(
                    "Heard or missed",
                    "Each bus over time: up while it is heard.",
                    UP_OR_DOWN,
                    ('min by (bus) (marketswarm_bus_up{bus=~"$bus"})', "{{bus}}"),
                ),
                timeline(
                    "The listening clock",
                    "Whether a monitor provably hears the bus. Silence counts only while this clock runs.",
                    {"0": ("gap", ORANGE), "1": ("listens", GREEN)},
                    (
                        f'marketswarm_bus_listening{{bus=~"$bus"}} {OF_AGENT}',
                        "{{agent}} on {{bus}} {{instance}}",
                    ),
                ),
                graph(
                    "Round trip of canaries",
                    "How long the last canary that came back was on its way.",
                    "s",
                    (
                        f'marketswarm_bus_canary_round_trip_seconds{{bus=~"$bus"}} {OF_AGENT}',
                        "{{agent}} on {{bus}} {{instance}}",
                    ),
                ),
                graph(
                    "Time listened",
                    "Seconds of proven listening in each second: 1 is all of the time.",
                    "percentunit",
                    (
                        f'rate(marketswarm_bus_listened_seconds_total{{bus=~"$bus"}}[$__rate_interval]) {OF_AGENT}',
                        "{{agent}} on {{bus}} {{instance}}",
                    ),
                ),
                graph(
                    "Gaps and new sessions",
                    "Gaps in the listening and sessions after the first, in the last ten minutes.",
                    "none",
                    ('sum by (bus) (increase(marketswarm_bus_gaps_total{bus=~"$bus"}[10m]))', "{{bus}} gaps"),
                    (
                        'sum by (bus) (increase(marketswarm_bus_session_restarts_total{bus=~"$bus"}[10m]))',
                        "{{bus}} sessions",
                    ),
                ),
                timeline(
                    "Who leads",
                    "Each healer on each bus: it publishes there while it leads.",
                    LEADS,
                    ('marketswarm_leader{bus=~"$bus"}', "{{instance}} on {{bus}}"),
                    width=12,
                ),
            ),
        ),
        (
            "Publishing",
            (
                graph(
                    "Attempts that a bus refused",
                    "Attempts to publish that the bus did not take, a second; each is tried again.",
                    "ops",
                    (
                        'sum by (bus) (rate(marketswarm_tell_retries_total{bus=~"$bus"}[$__rate_interval]))',
                        "{{bus}}",
                    ),
                ),
                graph(
                    "Verdicts that wait over time",
                    "What the healer has yet to publish.",
                    "none",
                    ('max by (bus) (marketswarm_untold_verdicts{bus=~"$bus"})', "{{bus}}"),
                ),
                graph(
                    "Verdicts dropped",
                    "Verdicts made up for by later ones, and verdicts that can't be published again should the bus "
                    "lose them; in the last ten minutes.",
                    "none",
                    (
                        'sum by (bus) (increase(marketswarm_superseded_verdicts_total{bus=~"$bus"}[10m]))',
                        "{{bus}} superseded",
                    ),
                    (
                        'sum by (bus) (increase(marketswarm_forgotten_verdicts_total{bus=~"$bus"}[10m]))',
                        "{{bus}} forgotten",
                    ),
                ),
                graph(
                    "Saves that were refused",
                    "Saves of the monitor's own state that a bus refused, in the last ten minutes, by what was to be saved.",
                    "none",
                    ("sum by (what) (increase(marketswarm_failed_saves_total[10m]))", "{{what}}"),
                ),
            ),
        ),
        (
            "Streams",
            (
                graph(
                    "Entries added",
                    "Entries a second that were added to each stream.",
                    "ops",
                    (
                        'max by (bus, key) (rate(marketswarm_mesh_stream_entries_total{bus=~"$bus"}[$__rate_interval]))',
                        "{{key}} on {{bus}}",
                    ),
                ),
                graph(
                    "Length",
                    "Entries that each stream holds.",
                    "none",
                    ('max by (bus, key) (marketswarm_mesh_stream_length{bus=~"$bus"})', "{{key}} on {{bus}}"),
                ),
                graph(
                    "Entries not yet read",
                    "Entries that a reader's group has not been given yet.",
                    "none",
                    (
                        'max by (bus, key, svc) (marketswarm_mesh_reader_lag_entries{bus=~"$bus"})',
                        "{{svc}} reads {{key}}",
                    ),
                ),
                graph(
                    "Oldest entry not settled",
                    "Age of the oldest entry that a reader's group has not settled; 0 when nothing is left.",
                    "s",
                    (
                        'max by (bus, key, svc) (marketswarm_mesh_reader_oldest_seconds{bus=~"$bus"})',
                        "{{svc}} reads {{key}}",
                    ),
                ),
            ),
        ),
    ),
    (Variable("bus", "Bus", "marketswarm_bus_up", "bus", several=True),),
)

NOTIFICATIONS: Final = Dashboard(
    "notifications",
    "MarketSwarm: notifications",
    "What becomes of events on the alert log: decisions, messages, and the channels that take them.",
    (
        (
            "Now",
            (
                stat(
                    "Notifiers that lead",
                    "Notifiers that send messages. None: nobody is sent a message.",
                    "none",
                    "sum(marketswarm_notifier_leads) or vector(0)",
                    WELL_AT_1,
                ),
                stat(
                    "Open incidents",
                    "Incidents that are not over, sent or not.",
                    "none",
                    "max(marketswarm_notifier_incidents)",
                    WARN_ABOVE_0,
                ),
                stat(
                    "Messages that wait",
                    "Messages that wait for a channel to take them.",
                    "none",
                    "sum(max by (channel) (marketswarm_notifier_waiting))",
                    WARN_ABOVE_0,
                ),
                stat(
                    "Channels broken",
                    "Channels that accept nothing until somebody repairs them.",
                    "none",
                    "sum(max by (channel) (marketswarm_notifier_channel_broken))",
                    WELL_AT_0,
                ),
                stat(
                    "Given up",
                    "Messages that were given up in the time that is shown: `marketswarm dead` lists them.",
                    "none",
                    'sum(increase(marketswarm_notifier_attempts_total{outcome="dead"}[$__range])) or vector(0)',
                    WELL_AT_0,
                ),
                stat(
                    "Entries not parsed",
                    "Entries of the alert log that can't be parsed, in the time that is shown.",
                    "none",
                    "sum(increase(marketswarm_notifier_malformed_total[$__range]))",
                    WARN_ABOVE_0,
                ),
            ),
        ),
        (
            "Events",
            (
                graph(
                    "Decisions",
                    "Events taken from the log in the last ten minutes, by what was decided about them.",
                    "none",
                    ("sum by (decision) (increase(marketswarm_notifier_events_total[10m]))", "{{decision}}"),
                ),
                graph(
                    "Open incidents over time",
                    "Incidents that are not over.",
                    "none",
                    ("max(marketswarm_notifier_incidents)", "open"),
                ),
                graph(
                    "Events not yet read",
                    "Events on each bus's alert log that the notifier has not acknowledged.",
                    "none",
                    ("max by (bus) (marketswarm_log_unread_events)", "{{bus}}"),
                ),
                graph(
                    "Alerts of massive",
                    "Events of massive that the healer put on the log, and entries that it skipped, in the last ten minutes.",
                    "none",
                    ("sum(increase(marketswarm_relay_copied_total[10m]))", "copied"),
                    (
                        "sum by (reason) (increase(marketswarm_relay_skipped_total[10m]))",
                        "skipped: {{reason}}",
                    ),
                ),
            ),
        ),
        (
            "Channels",
            (
                timeline(
                    "Broken",
                    "Whether each channel accepts nothing until somebody repairs it.",
                    YES_OR_NO,
                    ("max by (channel) (marketswarm_notifier_channel_broken)", "{{channel}}"),
                ),
                graph(
                    "Attempts",
                    "Attempts to send in the last ten minutes, by channel and outcome.",
                    "none",
                    (
                        "sum by (channel, outcome) (increase(marketswarm_notifier_attempts_total[10m]))",
                        "{{channel}} {{outcome}}",
                    ),
                ),
                graph(
                    "Messages that wait over time",
                    "Messages that wait for each channel.",
                    "none",
                    ("max by (channel) (marketswarm_notifier_waiting)", "{{channel}}"),
                ),
                graph(
                    "From event to accepted",
                    "How long after an event a channel had accepted the message. No line: none was sent lately.",
                    "s",
                    *quantiles("marketswarm_notifier_delay_seconds"),
                    width=24,
                ),
            ),
        ),
    ),
)

DASHBOARDS: Final = (FLEET, SERVICE, BUSES, NOTIFICATIONS)


def render_dashboard(dashboard: Dashboard) -> bytes:
    document = {
        "annotations": {"list": []},
        "description": dashboard.description,
        "editable": True,
        "fiscalYearStartMonth": 0,
        "graphTooltip": 1,
        "id": None,
        "links": [_build_link()],
        "panels": list(_place_panels(dashboard.rows)),
        "preload": False,
        "refresh": "10s",
        "schemaVersion": SCHEMA_VERSION,
        "tags": ["marketswarm"],
        "templating": {"list": [_build_datasource(), *map(_build_variable, dashboard.variables)]},
        "time": {"from": "now-1h", "to": "now"},
        "timepicker": {},
        "timezone": "browser",
        "title": dashboard.title,
        "uid": f"marketswarm-{dashboard.name}",
        "version": 1,
    }
    return orjson.dumps(document, option=orjson.OPT_INDENT_2) + b"\n"


def _build_link() -> dict[str, Any]:
    """Return the menu that leads to the other dashboards, with the same time."""
    return {
        "asDropdown": False,
        "icon": "external link",
        "includeVars": False,
        "keepTime": True,
        "tags": ["marketswarm"],
        "targetBlank": False,
        "title": "MarketSwarm",
        "tooltip": "",
        "type": "dashboards",
        "url": "",
    }


def _build_datasource() -> dict[str, Any]:
    return {
        "current": {},
        "hide": 0,
        "includeAll": False,
        "label": "Data source",
        "multi": False,
        "name": "datasource",
        "options": [],
        "query": "prometheus",
        "refresh": 1,
        "regex": "",
        "type": "datasource",
    }


def _build_variable(variable: Variable) -> dict[str, Any]:
    query = f"label_values({variable.metric}, {variable.of})"
    every = {"text": "All", "value": ["$__all"]} if variable.several else {}
    return {
        "allValue": ".*" if variable.several else None,
        "current": every,
        "datasource": DATASOURCE,
        "definition": query,
        "hide": 0,
        "includeAll": variable.several,
        "label": variable.label,
        "multi": variable.several,
        "name": variable.name,
        "options": [],
        "query": {"qryType": 1, "query": query, "refId": "PrometheusVariableQueryEditor-VariableQuery"},
        "refresh": 2,
        "regex": "",
        "sort": 1,
        "type": "query",
    }


def _place_panels(rows: tuple[tuple[str, tuple[Panel, ...]], ...]) -> Iterator[dict[str, Any]]:
    top, number = 0, 0
    for title, panels in rows:
        number += 1
        place = {"h": 1, "w": GRID_WIDTH, "x": 0, "y": top}
        yield {
            "collapsed": False,
            "gridPos": place,
            "id": number,
            "panels": [],
            "title": title,
            "type": "row",
        }
        top, left, height = top + 1, 0, 0
        for panel in panels:
            if left + panel.width > GRID_WIDTH:
                top, left, height = top + height, 0, 0
            number += 1
            place = {"h": panel.height, "w": panel.width, "x": left, "y": top}
            yield _build_panel(panel, number, place)
            left, height = left + panel.width, max(height, panel.height)
        top += height


def _build_panel(panel: Panel, number: int, place: dict[str, int]) -> dict[str, Any]:
    is_instant = panel.kind in ("stat", "bargauge")
    return {
        "datasource": DATASOURCE,
        "description": panel.description,
        "fieldConfig": {
            "defaults": {
                "color": {"mode": "palette-classic" if panel.kind == "timeseries" else "thresholds"},
                "custom": _build_custom_fields(panel.kind),
                "decimals": 0 if is_instant and panel.unit == "none" else None,
                "mappings": _build_mappings(panel.mappings),
                "min": 0 if panel.kind in ("timeseries", "bargauge") else None,
                "thresholds": {
                    "mode": "absolute",
                    "steps": [{"color": color, "value": value} for value, color in panel.steps],
                },
                "unit": panel.unit,
            },
            "overrides": [],
        },
        "gridPos": place,
        "id": number,
        "options": _build_options(panel.kind),
        "targets": [
            {
                "datasource": DATASOURCE,
                "editorMode": "code",
                "expr": query.expr,
                "instant": is_instant,
                "legendFormat": query.legend or "__auto",
                "range": not is_instant,
                "refId": chr(ord("A") + index),
            }
            for index, query in enumerate(panel.queries)
        ],
        "title": panel.title,
        "type": panel.kind,
    }


def _build_mappings(mappings: tuple[tuple[str, tuple[str, str]], ...]) -> list[dict[str, Any]]:
    if not mappings:
        return []
    options = {
        value: {"color": color, "index": index, "text": text}
        for index, (value, (text, color)) in enumerate(mappings)
    }
    return [{"options": options, "type": "value"}]


def _build_custom_fields(kind: str) -> dict[str, Any]:
    if kind == "timeseries":
        return {
            "axisPlacement": "auto",
            "drawStyle": "line",
            "fillOpacity": 8,
            "lineInterpolation": "linear",
            "lineWidth": 1,
            "showPoints": "never",
            "spanNulls": False,
            "stacking": {"group": "A", "mode": "none"},
        }
    return {"fillOpacity": 80, "lineWidth": 0, "spanNulls": False} if kind == "state-timeline" else {}


def _build_options(kind: str) -> dict[str, Any]:
    legend = {"calcs": [], "displayMode": "list", "placement": "bottom", "showLegend": True}
    reduce = {"calcs": ["lastNotNull"], "fields": "", "values": False}
    if kind == "timeseries":
        return {"legend": legend, "tooltip": {"mode": "multi", "sort": "desc"}}
    if kind == "state-timeline":
        return {
            "alignValue": "left",
            "legend": legend,
            "mergeValues": True,
            "rowHeight": 0.8,
            "showValue": "auto",
            "tooltip": {"mode": "single", "sort": "none"},
        }
    if kind == "bargauge":
        return {
            "displayMode": "basic",
            "orientation": "horizontal",
            "reduceOptions": reduce,
            "showUnfilled": True,
            "valueMode": "color",
        }
    return {
        "colorMode": "value",
        "graphMode": "none",
        "justifyMode": "auto",
        "orientation": "auto",
        "reduceOptions": reduce,
        "textMode": "auto",
    }


def main() -> int:
    """With `--check` compare the files instead of writing them."""
    made = {FOLDER / f"{each.name}.json": render_dashboard(each) for each in DASHBOARDS}
    stale = [path for path, text in made.items() if not path.exists() or path.read_bytes() != text]
    if "--check" in sys.argv[1:]:
        for path in stale:
            print(f"{path.relative_to(ROOT)} is not current: run .venv/bin/python tools/dashboards.py")
        return bool(stale)
    for path in stale:
        path.write_bytes(made[path])
        print(f"wrote {path.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
