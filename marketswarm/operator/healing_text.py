"""Put into words what the medic does about an outage, and why it does nothing. Pure.

The one table for terminal and board: the words of the record (`not_ours`, `start_grace`) are for programs. A
word that is not in the table, such as that of another release, stands for itself; it is foreign text, so who
shows it escapes it.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from marketswarm.operator.healing import UNDONE, EntryKind, HealingIncident, TimelineEntry
from marketswarm.truth import MEDIC

_RESTART_IT: Final = "look at its log, and restart it yourself"
_PASSES: Final = ""
"""What to do next about a refusal that ends by itself."""

REFUSALS: Final[Mapping[str, tuple[str, str]]] = {
    "paused": ("it is paused", "take `paused` out of its settings in the truth, or see to it yourself"),
    "protected": ("it never touches this one", _RESTART_IT),
    "cut_off": ("a bus, or what runs the service, does not answer it", "`marketswarm doctor` names which"),
    "bus_lost": ("the healer has lost a bus", "bring that bus back"),
    "healer_absent": ("no healer leads", "start the healer"),
    "healer_deaf": ("the healer may not hear all beats", "`marketswarm status` shows what the healer says"),
    "fleet_down": (
        "too many services are down at once, so the cause is elsewhere",
        "look for what they share: the network, a bus, the machine",
    ),
    "too_many_remedies": (
        "it did too much in a short time",
        f"`marketswarm {MEDIC} approve fuse` lets it continue",
    ),
    "share_used": ("it did too much for this service in a short time", "find out why that does not last"),
    "silenced": (
        "the service is silenced",
        "end its silence, and the medic continues; or see to it yourself",
    ),
    "maintenance": (
        "the service is under maintenance",
        "see to it yourself: the medic continues once the maintenance has ended",
    ),
    "emergency": ("a rule of the severity emergency holds", "see what the rule says"),
    "stopped": ("the service was stopped on purpose", "start it again when it may run"),
    "too_old": ("the outage was old when it was first seen", _RESTART_IT),
    "dependency_down": ("what the service needs is down", "see to that one first"),
    "unknown": ("whether the outage lasts is not known", _PASSES),
    "target_down": ("its remedies are for a service that beats", _RESTART_IT),
    "not_ours": ("it can't restart what runs elsewhere", "restart it where it runs"),
    "several_processes": (
        "several processes run, and which one hangs is not known",
        "find the one that hangs, and restart it",
    ),
    "owner_restarts": ("what runs the service is about to restart it", _PASSES),
    "start_grace": ("its process has only just started", _PASSES),
    "under_way": ("that is under way already", _PASSES),
    "blast_radius": ("too many services that are up need it", "choose the moment, and restart it yourself"),
    "one_at_a_time": ("it does one thing at a time", _PASSES),
    "cooldown": ("it tried that only just now", _PASSES),
    "dry_run": ("this is a dry run", _RESTART_IT),
    "observed": (
        "it only observes this service",
        f"{_RESTART_IT}, or give it the mode `propose` or `act` in the truth",
    ),
    "does_not_help": ("by the record that helps no more than waiting", _PASSES),
}
"""By the word for why the medic does nothing: why, and what a person can do next (empty: it passes)."""
_REMEDIES: Final[Mapping[str, str]] = {
    "wait": "wait whether it heals by itself",
    "resume_sources": "ask its sources again",
    "reload_series": "load series that are not fresh",
    "pause_source": "pause the source",
    "quotes_cache": "clear the cache of quotes",
    "charts_cache": "clear the cache of charts",
    "reconnect": "reopen its connections to the database",
    "repeat_backup": "make the backup that is due",
    "restart": "restart it",
    "roll_back_truth": "go back to the truth before",
    "command": "run the command of its settings",
}
_IT: Final = " it"
"""With this end a remedy names the service."""
_WORD: Final = re.compile(r"[a-z_]{1,40}", re.ASCII)
RESOLUTIONS: Final[Mapping[str, str]] = {
    "open": "open",
    "escalated": "needs a person",
    "healed": "healed by the medic",
    "recovered": "up again by itself",
    "restarted": "up again after a restart by others",
    "retired": "left the truth",
}
_REASONS: Final[Mapping[EntryKind, Mapping[str, str]]] = {
    EntryKind.OPENED: {
        "silent": "its beats are missing",
        "degraded": "it has said for too long that it is degraded",
        "alert": "a critical rule holds for it",
    },
    EntryKind.REFUSED: {reason: why for reason, (why, _) in REFUSALS.items()},
    EntryKind.ESCALATED: {
        "crash_loop": "it ends again after each start",
        "exhausted": "nothing that may be done has helped",
    },
    EntryKind.RESTARTED: {
        "up": "`marketswarm up`",
        "medic": "the medic",
        "engine": "the container engine",
        "systemd": "systemd",
        "elsewhere": "others",
    },
    EntryKind.RESOLVED: RESOLUTIONS,
    EntryKind.ABANDONED: {
        UNDONE: "it was not carried out",
        "changed": "it was not carried out: the process is another one by now",
        "refused": "it was refused",
        "unknown": "whether it was carried out is not known",
        "broken_off": "it ended with the medic that had begun it",
    },
}
"""By what an entry says: its reasons in words; of a restart, who did it."""
_WITH_TEXT: Final = (EntryKind.APPROVED, EntryKind.TOLD, EntryKind.ACKED)
"""The entries whose text continues with the sentence: `by kim`, `to slack`."""


METRICS: Final[Mapping[str, tuple[str, str | None]]] = {
    "degraded": ("it says that it is degraded", None),
    "restarts": ("its restarts", ""),
    "process_memory": ("the memory that it uses", " %"),
    "process_disk_free": ("what is free on its disk", " %"),
    "process_cpu": ("the time of a processor that it uses", " %"),
    "conflict": ("too many processes of it run", None),
    "escalated": ("the medic has given up its outage", None),
    "proposed": ("a remedy for it waits for an approval", None),
    "host_memory": ("the memory in use", " %"),
    "host_cpu": ("the time of the processors in use", " %"),
    "host_disk_free": ("what is free on the fullest disk", " %"),
    "bus_memory": ("the memory that the bus uses of its limit", " %"),
    "bus_connections": ("the connections to the bus, of its limit", " %"),
    "bus_replicas": ("the replicas of the bus that follow", ""),
    "bus_replica_lag": ("how long the last replica of the bus was not heard", " s"),
    "source_failing": ("the source fails", None),
    "source_rejects": ("what its worst source sent that is of no use", ""),
    "source_limited": ("the source takes no more requests", None),
    "gate_closed": ("the gate of the market is closed", None),
    "quarantined": ("the records that failed a check", ""),
    "backup_late": ("how late its next backup is", " s"),
    "backup_damaged": ("a backup is not what was saved", None),
    "restore_failed": ("the newest backup could not be restored", None),
    "database_connections": ("the connections to the database, of its limit", " %"),
    "database_idle_transactions": ("the sessions that idle in a transaction", ""),
    "database_size": ("the size of the database", " GB"),
    "database_memory": ("the memory that the database uses", " %"),
    "database_replicas": ("the replicas of the database", ""),
    "database_replica_lag": ("how far the last replica of the database is behind", " s"),
    "database_lag": ("how old the oldest entry is that it has not stored", " s"),
    "table_age": ("the age of the newest row of the table", " s"),
    "stopped": ("the medic may act on nothing", None),
    "fuse": ("the medic has stopped", None),
    "log_matches": ("the lines of its log that match", ""),
    "log_new": ("the lines of its log of a new kind", ""),
    "log_new_errors": ("the errors in its log of a new kind", ""),
    "write_age": ("how long ago it wrote its key", " s"),
    "probe_sec": ("how long a probe takes", " s"),
    "probe_failing": ("its probe fails", None),
    "certificate_days": ("how long its certificate is still good", " d"),
}
"""By metric of a rule: what is measured, and the unit of its value; None for one that is true or not."""
_MEASURED: Final = re.compile(
    r"([a-z_]{1,40})(?: (-?[0-9.e+-]{1,30}))?, (above|below) (.*)", re.ASCII | re.DOTALL
)


def describe_measurement(why: str) -> str:
    """Return why a rule holds in words: `the memory that it uses: 92.5 %, above 90 for 60 s`.

    What does not begin with a known metric is returned unchanged.
    """
    found = _MEASURED.fullmatch(why)
    words, unit = METRICS.get(found[1], ("", None)) if found is not None else ("", None)
    if found is None or not words:
        return why
    if unit is None:  # its value is 1, and the limit is a matter of how the rule is written
        _, lasts, more = found[4].partition(" for ")
        return f"{words}{lasts}{more}"
    value = "" if found[2] is None else f": {found[2]}{unit}"
    return f"{words}{value}, {found[3]} {found[4]}"


def describe_remedy(remedy: str) -> str:
    """Return what a remedy does, as a command: `restart it`."""
    return _REMEDIES.get(remedy, remedy)


def describe_proposal(remedy: str, svc: str) -> str:
    """Return what a person approves: `restart feed`, `clear the cache of quotes (mesh)`.

    `remedy` is the word of a remedy, and may continue: `restart, while 4 that are up need it`.
    """
    found = _WORD.match(remedy)
    words = describe_remedy(found[0]) if found is not None else ""
    if words.endswith(_IT):
        return f"{words.removesuffix(_IT)} {svc}"
    return f"{words} ({svc})".lstrip()


def describe_refusal(reason: str) -> str:
    """Return why the medic does nothing, in words."""
    return _REASONS[EntryKind.REFUSED].get(reason, reason)


def describe_resolution(resolution: str) -> str:
    """Return how an outage ended, or that it has not, in words."""
    return RESOLUTIONS.get(resolution, resolution)


def describe_reason(entry: TimelineEntry) -> str:
    """Return the reason of an entry in words; empty if it has none."""
    words = _REASONS.get(entry.what, {}).get(entry.reason, entry.reason)
    return f"by {words}" if entry.what is EntryKind.RESTARTED else words


def describe_step(entry: TimelineEntry) -> str:
    """Return what an entry of a timeline says in words, on one line."""
    remedy, reason = describe_remedy(entry.remedy), describe_reason(entry)
    heads: Mapping[EntryKind, str] = {
        EntryKind.OPENED: f"It began: {reason}",
        EntryKind.WAITING: "The medic waits whether it heals by itself",
        EntryKind.PREFERRED: f"The medic begins with what helped before: {remedy}",
        EntryKind.REFUSED: f"The medic does not {remedy}: {reason}",
        EntryKind.PROPOSED: f"The medic proposes: {remedy}",
        EntryKind.APPROVED: f"Approved: {remedy}",
        EntryKind.EXPIRED: f"No person approved in time: {remedy}",
        EntryKind.INTENDED: f"The medic is about to: {remedy}",
        EntryKind.RUNNING: f"Under way: {remedy}",
        EntryKind.ACTED: f"The medic did: {remedy}",
        EntryKind.ABANDONED: f"The medic was about to {remedy}, and {reason}",
        EntryKind.VERIFIED: f"That helped: {remedy}",
        EntryKind.FAILED: f"That did not help: {remedy}",
        EntryKind.RECOVERED: "It is up again, by what is not known",
        EntryKind.RELAPSED: "It came back before it was stable",
        EntryKind.RESTARTED: f"It was restarted {reason}",
        EntryKind.ESCALATED: f"A person is needed: {reason}",
        EntryKind.DIAGNOSED: f"A diagnosis proposes: {remedy}" if entry.proposal else "A diagnosis came",
        EntryKind.TOLD: "Messages went",
        EntryKind.ACKED: "Acknowledged",
        EntryKind.RESOLVED: f"It has ended: {reason}",
    }
    joint = " " if entry.what in _WITH_TEXT else ": "
    return joint.join(filter(None, (heads[entry.what], entry.text)))


@dataclass(frozen=True, slots=True)
class HealingStand:
    """How far the medic is with an open outage: what it does or why it does nothing, and since when.

    `next` is what a person can do, empty if it is nothing; `needs_person` that nothing continues without one.
    `at` is in epoch seconds.
    """

    text: str
    next: str
    at: float
    needs_person: bool = False


def describe_stand(found: HealingIncident) -> HealingStand:
    """Return how far the medic is with an outage that is open."""
    last = next((each for each in reversed(found.timeline) if not _is_aside(each)), found.timeline[0])
    remedy = describe_remedy(last.remedy)
    match last.what:
        case EntryKind.OPENED:
            text, then = "The medic has seen it, and decides what to do", ""
        case EntryKind.PROPOSED | EntryKind.DIAGNOSED:
            # the text of a proposal begins with the command that approves it, which is shown beside this
            more = last.text.partition("; ")[2] if last.what is EntryKind.PROPOSED else ""
            said = describe_step(replace(last, text=""))
            text, then = "; ".join(filter(None, (said, more))), "approve it, or see to it yourself"
        case EntryKind.REFUSED:
            text, then = describe_step(last), REFUSALS.get(last.reason, ("", _RESTART_IT))[1]
        case EntryKind.ACTED:
            text, then = f"The medic did: {remedy}. Whether that helps shows soon", ""
        case EntryKind.ESCALATED:
            text, then = (
                describe_step(last),
                f"`marketswarm incident {found.id}` shows what was tried and seen",
            )
        case EntryKind.EXPIRED | EntryKind.FAILED | EntryKind.ABANDONED | EntryKind.RELAPSED:
            text, then = f"{describe_step(last)}. The medic continues with the remaining remedies", ""
        case EntryKind.VERIFIED | EntryKind.RECOVERED:
            text, then = f"{describe_step(last)}. The medic watches whether it stays so", ""
        case _:
            text, then = describe_step(last), ""
    return HealingStand(text, then, last.ts, needs_person=bool(then))


def _is_aside(entry: TimelineEntry) -> bool:
    is_beside = entry.is_beside and entry.what is not EntryKind.RUNNING
    return is_beside or entry.what is EntryKind.PREFERRED
