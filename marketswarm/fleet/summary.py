"""Format the summary of a fleet that is up: its services and buses, the seeding, commands to type next."""

import asyncio
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from marketswarm.access.certificate import FOLDER
from marketswarm.access.users import JOIN
from marketswarm.agent.service_modules import find_elsewhere
from marketswarm.bus.stored_values import get_object, parse_object
from marketswarm.channels import create_environment_channels
from marketswarm.fleet.access import SECRETS
from marketswarm.fleet.data_folder import format_data_option
from marketswarm.fleet.plan import BOARD, Plan, find_board_host, find_missed, format_board_url
from marketswarm.fleet.supervisor import DATABASE, WITHOUT_BOARD, FleetSpec
from marketswarm.settings import read_settings
from marketswarm.settings.programs import ChannelSettings
from marketswarm.status.notifications import CHANNEL_REMEDY
from marketswarm.text import describe_url, escape_text, format_duration
from marketswarm.truth import HEALER, Truth, Watch

NOTIFIER: Final = "notifier"
BARS: Final = "bars"
_MAX_CHANGES: Final = 12
_MONITORS = (HEALER, "sentinel", NOTIFIER)
_NO_CHANNEL = f"Nobody is notified: {CHANNEL_REMEDY}."


@dataclass(frozen=True, slots=True)
class SummaryFacts:
    """The facts of the summary that are not in the fleet's spec.

    `data` is the data folder as the user would write it, `has_makefile` says whether the current folder has
    our Makefile, `begun` is the monotonic time of the command, `channels` describes how people are notified.
    `has_redis_cli` says whether that program is on PATH: the fleet needs no other program than its servers.
    `opens_board` says whether the board is opened in a browser.
    """

    data: str
    has_makefile: bool
    begun: float
    channels: tuple[str, ...] = ()
    has_redis_cli: bool = False
    opens_board: bool = False


def format_summary(
    spec: FleetSpec, agents: Sequence[str], seeding_output: Iterable[bytes], facts: SummaryFacts, now: float
) -> list[str]:
    """Return the lines of the summary, without colours, in 80 columns where names allow.

    `agents` are the names of those that are up, `seeding_output` the log of bootstrap, `now` monotonic.
    """
    example = _find_example(spec.truth, agents)
    running = _format_services(spec.plan, agents)
    subject = "The service is" if len(running) == 1 else f"All {len(running)} services are"
    lines = ["", f"{subject} up, {now - facts.begun:.1f} s after the start.", ""]
    lines += _format_buses(spec, facts)
    lines += ["", *_wrap_words("  services  ", running)]
    lines += _format_others(spec, agents, describe_seeding(seeding_output), facts)
    if NOTIFIER in agents:
        words = [f"{channel}," for channel in facts.channels[:-1]] + list(facts.channels[-1:])
        lines += ["", *(_wrap_words("Notifications: ", words) if words else [_NO_CHANNEL])]
    lines += ["", "In another terminal, in this folder:"]
    hints = _suggest_commands(spec, example, facts)
    width = max(len(command) for command, _ in hints)
    lines += [f"  {command:<{width}}  {what}" for command, what in hints]
    lines += _format_listening(spec, facts)
    return [*lines, "", "Ctrl-C here ends all of it.", ""]


def describe_listening(spec: FleetSpec, facts: SummaryFacts) -> dict[str, Any]:
    """Return what another machine needs to join, and which services it may beat for, as fields of an event.

    The password is not among them, but the file that holds it. Empty for a fleet that listens for none.
    """
    listening = spec.listening
    if listening is None:
        return {}
    ports = [bus.port for bus in spec.plan.buses if bus.port is not None]
    return {
        "address": listening.at.address,
        "ports": ports,
        "url": listening.format_url(ports[0]),
        "fingerprint": listening.certificate.fingerprint,
        "certificate": f"{facts.data}/{FOLDER}/{listening.certificate.shared.name}",
        "password_file": f"{facts.data}/{SECRETS}/{JOIN}",
        "services": find_elsewhere(spec.truth.services),
    }


def _format_listening(spec: FleetSpec, facts: SummaryFacts) -> list[str]:
    found = describe_listening(spec, facts)
    if not found:
        return []
    services = [*found["services"]] or ["none yet; `marketswarm add daemon NAME` makes one"]
    return [
        "",
        "On another machine, in a folder for it:",
        f"  marketswarm join {found['url']} \\",
        f"    --fingerprint {found['fingerprint']}",
        f"It asks for the password, which is in {found['password_file']} here.",
        *_wrap_words("It may beat for: ", services),
    ]


def _format_buses(spec: FleetSpec, facts: SummaryFacts) -> list[str]:
    """Return a line for each bus, without its credentials, and one for the database if there is one."""
    width = max(len(bus.name) for bus in spec.plan.buses)
    program = spec.binary.name if spec.binary else ""
    lines = []
    for bus in spec.plan.buses:
        where = f"{program}, data in {facts.data}/{bus.name}" if bus.port else "not ours: used as it is"
        lines.append(f"  {bus.name:<{width}}  {describe_url(bus.url)}  ({where})")
    database = "the one of DATABASE_URL, not ours" if spec.plan.needs_database else ""
    if spec.database is not None:
        url_file = Path(facts.data, DATABASE, spec.database.url_file.name)
        major = spec.database.programs.major
        database = f"127.0.0.1:{spec.database.port}  (PostgreSQL {major}; its URL: {url_file})"
    if database:
        lines.append(f"  {'database':<{width}}  {database}")
    return lines


def _format_others(
    spec: FleetSpec, agents: Sequence[str], seeding: Sequence[str], facts: SummaryFacts
) -> list[str]:
    plan = spec.plan
    lines = []
    absent = [agent for agent in plan.agents if agent.name not in agents]
    if stopped := [agent.name for agent in absent if agent.svc not in plan.gated]:
        lines += _wrap_words("  stopped   ", stopped)
    if waiting := [agent.name for agent in absent if agent.svc in plan.gated]:
        lines += _wrap_words("  waiting   ", waiting)
        lines.append("            (the gate of the sources is closed; it is tried again by itself)")
    if plan.elsewhere:
        lines += _wrap_words("  elsewhere ", plan.elsewhere)
    if missed := find_missed(plan, spec.truth):
        lines += _wrap_words("  left out  ", missed)
        lines.append("            (reported as missed, unless they run elsewhere)")
    if spec.truth_path.name == WITHOUT_BOARD:
        lines.append("  board     none, and none in the truth that is seeded (--no-board)")
    urls = [
        format_board_url(agent.board_port, find_board_host(os.environ))
        for agent in plan.agents
        if agent.board_port and agent.name in agents
    ]
    lines += [f"  {'board':<8}  {url}{_format_tls_address(spec, url)}" for url in urls]
    if any(agent.svc == BARS for agent in plan.agents):
        lines += [f"  {'market':<8}  {url}/market" for url in urls]
    lines += [f"  {'truth' if at == 0 else '':<8}  {line}" for at, line in enumerate(seeding)]
    lines += _format_access(spec, facts)
    metrics = [f"{agent.name}:{agent.metrics_port}" for agent in plan.agents if agent.metrics_port]
    if metrics:
        lines += _wrap_words("  metrics   ", metrics)
    return lines


def _format_tls_address(spec: FleetSpec, board: str) -> str:
    """Return where other machines find the board with this URL, for pings; an empty text if they can't."""
    port = urlsplit(board).port
    if spec.listening is None or port is None:
        return ""
    return f"; others ping {spec.listening.format_board_url(port)}"


def _format_access(spec: FleetSpec, facts: SummaryFacts) -> list[str]:
    if spec.access is None:
        is_open = any(bus.port for bus in spec.plan.buses)
        return ["  users     none: the buses are open to all on this machine; --acl shuts them"] * is_open
    option = "--acl" if spec.listening is None else "--listen"
    return [f"  users     one a service ({option}); passwords in {facts.data}/{SECRETS}"]


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


def _find_example(truth: Truth, agents: Sequence[str]) -> Watch | None:
    """Return the running service that is missed first after it was stopped; None if no healer would miss any.

    The board comes last, since people look at it meanwhile. The miss of a job may be a day away.
    """
    running = {name.partition("/")[0] for name in agents}.difference(_MONITORS)
    watched = truth.watched() if HEALER in agents else ()
    beating = (each for each in watched if each.job is None or each.job.schedule is None)
    found = [each for each in beating if each.svc in running]
    return min(found, key=lambda each: (each.svc == BOARD, each.timeout_sec), default=None)


def _suggest_commands(spec: FleetSpec, example: Watch | None, facts: SummaryFacts) -> list[tuple[str, str]]:
    """Return commands to type next, each with its purpose; `example` is the service to simulate an outage of.

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
    if facts.has_redis_cli and (spec.access is None or not spec.access.closed):
        port = urlsplit(spec.plan.buses[0].url).port or 6379
        hints.append((f"redis-cli -p {port} SUBSCRIBE healer:alerts", "the same, raw"))
    if example:
        simulate = (
            f"make simulate SVC={example.svc}"
            if suggests_make
            else f"marketswarm simulate {example.svc}{option}"
        )
        miss_within = format_duration(example.timeout_sec)
        hints.append((simulate, f"stop it, read the miss within {miss_within}, start it"))
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
    found = get_object(section.settings.get("channels")) if section else {}
    kinds = {name: get_object(options).get("type") for name, options in found.items()}
    return tuple(name if kind in (None, name) else f"{name} ({kind})" for name, kind in kinds.items())
