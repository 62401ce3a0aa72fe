"""What is said when all agents are up: who, where, and what to type next. Pure."""

import asyncio
import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from marketswarm.channels import channels_from_environment
from marketswarm.fleet.data_folder import DEFAULT
from marketswarm.fleet.plan import Plan
from marketswarm.settings import ChannelSettings, read
from marketswarm.truth import Truth

NOTIFIER = "notifier"
_WATCHERS = ("healer", "sentinel", NOTIFIER)
_NOBODY = "Nobody is notified: set WEBHOOK_URL, or see docs/notifications.md for other ways."


@dataclass(frozen=True, slots=True)
class SummaryFacts:
    """What the summary tells of, beside the plan.

    `data` is the folder as the user would write it, `make` whether there is a Makefile of ours here,
    `took_sec` the time from the command to now, `miss_after_sec` the longest a miss can be waited for, `ways`
    the channels over which people are told, `guarded` whether the servers let in only who has a user,
    `closed` whether nobody looks without a password.
    """

    program: str
    data: str
    make: bool
    took_sec: float
    miss_after_sec: float
    ways: tuple[str, ...] = ()
    guarded: bool = False
    closed: bool = False


def summary(plan: Plan, agents: Sequence[str], scene: SummaryFacts) -> list[str]:
    """The lines of it for `agents` that are up, without colours, within 80 columns where names allow."""
    services = (name.partition("/")[0] for name in agents)
    example = next((svc for svc in services if svc not in _WATCHERS), None)
    running = _counted(plan, agents)
    lines = ["", f"{_all(len(running))} up, {scene.took_sec:.1f} s after the start.", ""]
    width = max(len(bus.name) for bus in plan.buses)
    for bus in plan.buses:
        ours = f"{scene.program}, data in {scene.data}/{bus.name}" if bus.port else "not ours: used as it is"
        lines.append(f"  {bus.name:<{width}}  {_shown(bus.url)}  ({ours})")
    lines += ["", *_wrapped("  services  ", running)]
    stopped = [agent.name for agent in plan.agents if agent.name not in agents]
    if stopped:
        lines += _wrapped("  stopped   ", stopped)
    if plan.elsewhere:
        lines += _wrapped("  elsewhere ", plan.elsewhere)
    if scene.guarded:
        lines.append(f"  users     one a service (--acl); passwords in {scene.data}/secrets")
    elif any(bus.port for bus in plan.buses):
        lines.append("  users     none: the buses are open to all on this machine; --acl shuts them")
    metrics = [f"{agent.name}:{agent.metrics_port}" for agent in plan.agents if agent.metrics_port]
    if metrics:
        lines += _wrapped("  metrics   ", metrics)
    if NOTIFIER in agents:
        told = [f"{way}," for way in scene.ways[:-1]] + list(scene.ways[-1:])
        lines += ["", *(_wrapped("Notifications: ", told) if told else [_NOBODY])]
    lines += ["", "In another terminal, in this folder:"]
    hints = _hints(plan, example if "healer" in agents else None, scene)
    width = max(len(command) for command, _ in hints)
    lines += [f"  {command:<{width}}  {what}" for command, what in hints]
    return [*lines, "", "Ctrl-C here ends all of it.", ""]


def _hints(plan: Plan, example: str | None, scene: SummaryFacts) -> list[tuple[str, str]]:
    """Return commands to type next, with what each is for; `example` is the service to simulate.

    The targets of the Makefile know only the default data folder: for another one, name it by `--data`.
    """
    make = scene.make and scene.data == str(DEFAULT)
    option = "" if scene.data == str(DEFAULT) else f" --data {shlex.quote(scene.data)}"
    program = "make" if make else "marketswarm"
    hints = [
        (f"{program} status{option}", "who is up and who is down"),
        (f"{program} alerts{option}", "follow the alerts"),
    ]
    if not scene.closed:
        port = urlsplit(plan.buses[0].url).port or 6379
        hints.append((f"redis-cli -p {port} SUBSCRIBE healer:alerts", "the same, raw"))
    if example:
        simulate = f"make simulate SVC={example}" if make else f"marketswarm simulate {example}{option}"
        hints.append((simulate, f"stop it, read the miss within {scene.miss_after_sec:.0f} s, start it"))
    return hints


def _counted(plan: Plan, agents: Sequence[str]) -> list[str]:
    """Each service that runs, with the number of its processes where there are to be several."""
    planned = Counter(agent.svc for agent in plan.agents)
    here = Counter(agent.svc for agent in plan.agents if agent.name in agents)
    return [svc + _part(here[svc], planned[svc]) for svc in here]


def _part(here: int, planned: int) -> str:
    if planned == 1:
        return ""
    return f"({here})" if here == planned else f"({here} of {planned})"


def _all(services: int) -> str:
    return "The service is" if services == 1 else f"All {services} services are"


def _shown(url: str) -> str:
    """Without credentials."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def _wrapped(head: str, words: Sequence[str], columns: int = 78) -> list[str]:
    lines = [head]
    for word in words:
        if len(lines[-1]) + len(word) + 1 > columns and lines[-1].strip():
            lines.append(" " * len(head))
        lines[-1] += f"{word} "
    return [line.rstrip() for line in lines]


async def ways(truth: Truth) -> tuple[str, ...]:
    """Each channel and where it leads, as `webhook to hooks.example.org`; nothing is connected.

    Those that the truth names go instead of the environment's.

    Raises:
        Exit: code 2, when a variable that names one is wrong: the agents would end with that.
    """
    channels = channels_from_environment(read(ChannelSettings))
    await asyncio.gather(*(channel.aclose() for channel in channels))
    return _of_the_truth(truth) or tuple(f"{channel.name} to {channel.where}" for channel in channels)


def _of_the_truth(truth: Truth) -> tuple[str, ...]:
    """Those in the settings of the notifier's section; where they lead may be the environment's secret."""
    section = truth.services.get(NOTIFIER)
    found = section.settings.get("channels") if section else None
    if not isinstance(found, dict):
        return ()
    kinds = {
        name: options.get("type") if isinstance(options, dict) else None for name, options in found.items()
    }
    return tuple(name if kind in (None, name) else f"{name} ({kind})" for name, kind in kinds.items())
