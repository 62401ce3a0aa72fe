"""Format the summary of a fleet that is up: its services and buses, the seeding, commands to type next."""

import asyncio
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from marketswarm.bus.stored_values import parse_object
from marketswarm.channels import create_environment_channels
from marketswarm.fleet.data_folder import format_data_option
from marketswarm.fleet.plan import Plan, format_board_url
from marketswarm.settings import ChannelSettings, read_settings
from marketswarm.text import escape_text
from marketswarm.truth import Truth

NOTIFIER: Final = "notifier"
BARS: Final = "bars"
_MAX_CHANGES: Final = 12
_MONITORS = ("healer", "sentinel", NOTIFIER)
_NO_CHANNEL = "Nobody is notified: set WEBHOOK_URL, or see docs/notifications.md for other ways."


@dataclass(frozen=True, slots=True)
class SummaryFacts:
    """The facts of the summary that are not in the plan.

    `program` is the server program, `data` the data folder as the user would write it, `has_makefile` whether
    the current folder has our Makefile. `took_sec` is the time from the command to now, `miss_after_sec` the
    longest timeout, both in seconds. `channels` describes how people are notified, `seeding` what the seeding
    changed. `missed` are the services that --only leaves out and that will be reported as missed. `has_users`
    says that the servers have users (--acl), `closed` that every client needs a password to read.
    `board_host` is the address on which the board listens. `is_without_board` says that the truth is seeded
    without it. `database` says which PostgreSQL is used, "" if none is.
    """

    program: str
    data: str
    has_makefile: bool
    took_sec: float
    miss_after_sec: float
    channels: tuple[str, ...] = ()
    seeding: tuple[str, ...] = ()
    missed: tuple[str, ...] = ()
    has_users: bool = False
    closed: bool = False
    board_host: str = "127.0.0.1"
    is_without_board: bool = False
    database: str = ""


def format_summary(plan: Plan, agents: Sequence[str], facts: SummaryFacts) -> list[str]:
    """Return the lines of the summary, without colours, in 80 columns where names allow."""
    services = (name.partition("/")[0] for name in agents)
    example = next((svc for svc in services if svc not in _MONITORS), None)
    running = _format_services(plan, agents)
    subject = "The service is" if len(running) == 1 else f"All {len(running)} services are"
    lines = ["", f"{subject} up, {facts.took_sec:.1f} s after the start.", ""]
    lines += _format_buses(plan, facts)
    lines += ["", *_wrap_words("  services  ", running), *_format_others(plan, agents, facts)]
    if NOTIFIER in agents:
        words = [f"{channel}," for channel in facts.channels[:-1]] + list(facts.channels[-1:])
        lines += ["", *(_wrap_words("Notifications: ", words) if words else [_NO_CHANNEL])]
    lines += ["", "In another terminal, in this folder:"]
    hints = _suggest_commands(plan, example if "healer" in agents else None, facts)
    width = max(len(command) for command, _ in hints)
    lines += [f"  {command:<{width}}  {what}" for command, what in hints]
    return [*lines, "", "Ctrl-C here ends all of it.", ""]


def _format_buses(plan: Plan, facts: SummaryFacts) -> list[str]:
    width = max(len(bus.name) for bus in plan.buses)
    lines = []
    for bus in plan.buses:
        where = f"{facts.program}, data in {facts.data}/{bus.name}" if bus.port else "not ours: used as it is"
        lines.append(f"  {bus.name:<{width}}  {_strip_credentials(bus.url)}  ({where})")
    if facts.database:
        lines.append(f"  {'database':<{width}}  {facts.database}")
    return lines


def _format_others(plan: Plan, agents: Sequence[str], facts: SummaryFacts) -> list[str]:
    lines = []
    absent = [agent for agent in plan.agents if agent.name not in agents]
    if stopped := [agent.name for agent in absent if agent.svc not in plan.gated]:
        lines += _wrap_words("  stopped   ", stopped)
    if waiting := [agent.name for agent in absent if agent.svc in plan.gated]:
        lines += _wrap_words("  waiting   ", waiting)
        lines.append("            (the gate of the sources is closed; it is tried again by itself)")
    if plan.elsewhere:
        lines += _wrap_words("  elsewhere ", plan.elsewhere)
    if facts.missed:
        lines += _wrap_words("  left out  ", facts.missed)
        lines.append("            (reported as missed, unless they run elsewhere)")
    if facts.is_without_board:
        lines.append("  board     none, and none in the truth that is seeded (--no-board)")
    urls = [
        format_board_url(agent.board_port, facts.board_host)
        for agent in plan.agents
        if agent.board_port and agent.name in agents
    ]
    lines += [f"  {'board':<8}  {url}" for url in urls]
    if any(agent.svc == BARS for agent in plan.agents):
        lines += [f"  {'market':<8}  {url}/market" for url in urls]
    lines += [f"  {'truth' if at == 0 else '':<8}  {line}" for at, line in enumerate(facts.seeding)]
    if facts.has_users:
        lines.append(f"  users     one a service (--acl); passwords in {facts.data}/secrets")
    elif any(bus.port for bus in plan.buses):
        lines.append("  users     none: the buses are open to all on this machine; --acl shuts them")
    metrics = [f"{agent.name}:{agent.metrics_port}" for agent in plan.agents if agent.metrics_port]
    if metrics:
        lines += _wrap_words("  metrics   ", metrics)
    return lines


def describe_seeding(output: Iterable[bytes]) -> list[str]:
    """Return what a seeding changed, by bootstrap's log: the revision, then each service or bus."""
    revision = ""
    changes: list[str] = []
    for record in map(parse_object, output):
        match record:
            case {"event": "truth.seeded", "revision": number, "changed": changed, "services": services}:
                news = "" if changed else ", unchanged"
                revision = f"revision {number}{news}, {services} services"
            case {"event": "truth.added", "svc": svc}:
                changes.append(f"+ {svc}")
            case {"event": "truth.dropped", "svc": svc}:
                changes.append(f"- {svc}")
            case {"event": "truth.changed", "svc": name, "what": what}:
                changes.append(f"~ {name}: {what}")
            case {"event": "truth.bus_changed", "bus": name, "what": what}:
                changes.append(f"~ {name}: {what}")
            case {"event": "truth.repaired", "bus": name}:
                changes.append(f"{name} did not hold it, and does again")
    if revision.startswith("revision 1,"):  # everything is new
        return [revision]
    shown = changes if len(changes) <= _MAX_CHANGES else changes[: _MAX_CHANGES - 1]
    more = len(changes) - len(shown)
    rest = [f"and {more} more: `marketswarm logs bootstrap`"] if more else []
    return [escape_text(line) for line in ([revision] if revision else []) + shown + rest]


def _suggest_commands(plan: Plan, example: str | None, facts: SummaryFacts) -> list[tuple[str, str]]:
    """Return commands to type next, each with its purpose; `example` is a service to simulate an outage of.

    The targets of the Makefile know only the default data folder: with another one, no `make` is suggested.
    """
    option = format_data_option(Path(facts.data))
    suggests_make = facts.has_makefile and not option
    program = "make" if suggests_make else "marketswarm"
    hints = [
        (f"{program} status{option}", "who is up and who is down"),
        (f"{program} alerts{option}", "follow the alerts"),
        (f"marketswarm logs{option} --follow", "what each agent logs"),
    ]
    if not facts.closed:
        port = urlsplit(plan.buses[0].url).port or 6379
        hints.append((f"redis-cli -p {port} SUBSCRIBE healer:alerts", "the same, raw"))
    if example:
        simulate = (
            f"make simulate SVC={example}" if suggests_make else f"marketswarm simulate {example}{option}"
        )
        hints.append((simulate, f"stop it, read the miss within {facts.miss_after_sec:.0f} s, start it"))
    return hints


def _format_services(plan: Plan, agents: Sequence[str]) -> list[str]:
    """Return each service that runs; if several processes are planned, with their number: `a(2 of 3)`."""
    planned = Counter(agent.svc for agent in plan.agents)
    here = Counter(agent.svc for agent in plan.agents if agent.name in agents)
    found = []
    for svc, count in here.items():
        number = f"{count}" if count == planned[svc] else f"{count} of {planned[svc]}"
        found.append(svc if planned[svc] == 1 else f"{svc}({number})")
    return found


def _strip_credentials(url: str) -> str:
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def _wrap_words(head: str, words: Sequence[str], columns: int = 78) -> list[str]:
    """Return `head` and the words, wrapped to `columns`; further lines are indented below the words."""
    lines = [head]
    for word in words:
        if len(lines[-1]) + len(word) + 1 > columns and lines[-1].strip():
            lines.append(" " * len(head))
        lines[-1] += f"{word} "
    return [line.rstrip() for line in lines]


async def describe_channels(truth: Truth) -> tuple[str, ...]:
    """Return `webhook to hooks.example.org`; connect nothing. Raises Exit, code 2, for a wrong variable."""
    channels = create_environment_channels(read_settings(ChannelSettings))
    await asyncio.gather(*(channel.aclose() for channel in channels))
    return _describe_truth_channels(truth) or tuple(
        f"{channel.name} to {channel.where}" for channel in channels
    )


def _describe_truth_channels(truth: Truth) -> tuple[str, ...]:
    """Return the channels in the notifier's settings as `name (type)`, since their URLs may be secret."""
    section = truth.services.get(NOTIFIER)
    found = section.settings.get("channels") if section else None
    if not isinstance(found, dict):
        return ()
    kinds = {
        name: options.get("type") if isinstance(options, dict) else None for name, options in found.items()
    }
    return tuple(name if kind in (None, name) else f"{name} ({kind})" for name, kind in kinds.items())
