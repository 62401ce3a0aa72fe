"""Write docs/log-events.md, the table of all log events, from the code.

    .venv/bin/python tools/log_events.py             writes the page
    .venv/bin/python tools/log_events.py --check     ends with code 1 if the page is not current

It finds each call that logs an event, and resolves the event's name and level where they are chosen between
constants. A call that it can't resolve is an error: give it an entry in `DYNAMIC`. What an event means is in
`MEANINGS`; for an event that is not there, it is the first sentence of the function that logs it.
"""

import ast
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]
PAGE: Final = ROOT / "docs" / "log-events.md"
PACKAGES: Final = ("marketswarm", "bootstrap", "healer", "sentinel", "notifier", "services")
LEVELS: Final = ("debug", "info", "warning", "error", "critical", "exception")
EVENT: Final = re.compile(r"[a-z_]+\.[a-z_]+")
LOGGER: Final = re.compile(r"(^|\.|_)log(ger)?(\.get\(.*\))?$")
FLEET_LOGGERS: Final = {"log_event": 0, "_log_event": 0, "_make_record": 1}
"""Functions of `marketswarm/fleet` that log: at which place they are given the event; its level follows."""
DYNAMIC: Final = {
    'f"{verdict.subject}.gap"': ("service.gap",),
    'event.type.replace("_", ".")': (
        *("probe.miss", "probe.ok", "probe.unwatched"),
        *("source.miss", "source.ok", "source.unwatched"),
    ),
}
"""Names of events that no constant holds: by the expression."""
SOME_LEVELS: Final = {"record.levelno": "warning error", "level": "info error"}
"""Levels that are chosen while the program runs: by the expression."""
FORWARDS: Final = frozenset(
    {
        ("marketswarm/fleet/output.py", "log_event"),
        ("marketswarm/bus/outage.py", "record"),
        ("marketswarm/bus/outage.py", "end"),
    }
)
"""Functions that only hand on an event that they are given."""
OUTAGE: Final = "Outage"
OUTAGE_EVENTS: Final = (("warning", ("bus", "reason", "detail")), ("info", ("bus", "after", "away_sec")))
"""The levels and fields of the two events that an `Outage` is given after its logger."""

MEANINGS: Final = {
    "access.bus_unknown": "No URL of this bus is known, so no users are made for it.",
    "access.not_renewed": "A bus that runs could not be made to load the new users.",
    "access.renewed": "A bus that runs has loaded the new users.",
    "access.truth_unusable": "The truth file can't be used; users are made for the fleet's own programs alone.",
    "access.written": "Users, passwords and URLs are written.",
    "agent.ended": "A child of `marketswarm up` ended, and is started again after the pause.",
    "agent.hung": "The agent's work made no progress within the limit: it ends with code 5, and shows where each task and thread stands.",
    "agent.joined": "The agent has its truth, and its bus takes beats.",
    "agent.restarting": "A child of `marketswarm up` is ended, since a restart was asked for on the control socket; it starts again at once.",
    "agent.stop_disturbed": "A side task failed while the agent stopped on request; it stops all the same.",
    "agent.stopped": "The agent has ended in good order.",
    "agent.stopping": "A signal asked the agent to stop.",
    "agent.unstartable": "A program of the fleet can't be started.",
    "alerts.resumed": "The bus takes outcomes of targets and sources again.",
    "alerts.waiting": "The bus does not take outcomes of targets and sources; they wait.",
    "alive.unwritable": "The file by which `marketswarm check` knows this agent can't be written.",
    "archive.position_unreadable": "The place up to which the alert log was written to the database can't be read; archive begins with the oldest alert.",
    "archive.stream_anew": "The alert log was deleted and begun anew, or its bus lost what it had last; archive reads it from its beginning.",
    "backup.made": "The archive was saved; `marketswarm archive verify` tells whether it can be restored.",
    "backup.off": "No backups are made: there is no folder for them.",
    "backup.removed": "Backups that are too old were removed.",
    "backup.requested": "The medic asked for the backup that is due: it is made now, without the pause after a failure.",
    "bars.beginning_trimmed": "A symbol begins with a stream off which entries were trimmed: it may lack some.",
    "bars.bus_back": "The bus works again after it failed.",
    "bars.bus_failed": "The bus fails, so bars waits, and then processes what was not committed.",
    "bars.entry_too_large": "An entry is too large to be a record, and is skipped.",
    "bars.features_back": "The bus works again, and features are computed.",
    "bars.features_failed": "The bus fails, so features wait.",
    "bars.follows": "The symbols that are this instance's by now.",
    "bars.refused": "Another instance has committed this symbol: it is read anew.",
    "bars.state_unreadable": "The state of a symbol can't be read: it is built anew from the stream.",
    "bars.stream_anew": "A stream was deleted and begun anew, or its bus lost what it had last; bars reads it from its beginning.",
    "bars.symbol_failed": "The bars of a symbol can't be built: the symbol is set aside, and the others go on.",
    "bars.trimmed": "The entry that bars read last was trimmed off: later ones may be lost unread.",
    "beat.failed": "The bus does not take this agent's beats.",
    "beat.malformed": "Payloads on heartbeat channels are not beats; the last one is named.",
    "beat.replayed": "Beats came that had been heard before, and do not count.",
    "beat.resumed": "The bus takes this agent's beats again.",
    "board.alerts_unknown": "A webhook of Alertmanager has alerts that name no service of the truth: these are left out.",
    "board.audit": "What a client had the board do, as it is in the stream `board:audit`: before it is done, and its outcome.",
    "board.listening": "The board answers at this address.",
    "board.no_bus": "The board can't follow the alerts: the bus fails.",
    "board.not_audited": "What a client had the board do could not be put on the audit log.",
    "board.pause_not_ended": "A service was pinged, and its pause could not be ended: the client got 503.",
    "board.ping_key_refused": "A client pinged with a key that is not known.",
    "board.ping_key_unusable": "The truth names a ping key whose variable is missing or holds no such key.",
    "board.ping_keys_read": "The ping keys can be read again.",
    "board.ping_keys_unread": "The ping keys can't be read: those that were read last stay valid.",
    "board.pings_refused": "A bus takes no pings: their clients get 503.",
    "board.pings_taken": "The bus takes pings again.",
    "board.reading_failed": "What is on the buses broke the board's reader: its last view of the fleet stands until it is too old.",
    "board.session_ended": "A person signed out on the board's pages, or the token is revoked or over.",
    "board.signed_in": "A person signed in on the board's pages with a token.",
    "board.token_refused": "A client presented a token that is not valid.",
    "bus.answers": "A bus that was waited for answers.",
    "bus.down": "The bus is not heard any more: `bus_miss`.",
    "bus.ready": "A server that `marketswarm up` started answers.",
    "bus.unreached": "The sentinel can't reach this bus for longer than its timeout, and no other process reported that.",
    "bus.up": "The bus is heard, or it was lost and the truth has dropped it (`reason` is `unwatched`): `bus_ok`.",
    "bus.used": "This bus runs elsewhere, so `marketswarm up` starts no server for it.",
    "bus.waiting": "A bus does not answer yet; it is waited for.",
    "channel.address_new": "The truth names addresses to which no messages went before; the other channels report that, too.",
    "channel.address_unsent": "The warning about new addresses could not be sent over this channel.",
    "channel.broken": "A channel refuses all messages until it is repaired.",
    "channel.defect": "The code of a channel raised an error that it should not; the message counts as failed.",
    "channel.mended": "A channel that was broken takes messages again.",
    "channel.not_opened": "A channel of the truth can't be used; the others are.",
    "channels.named": "The channels that the notifier sends to.",
    "channels.none": "There is no channel, so no person is sent a message.",
    "database.away": "PostgreSQL can't be used: archive reads no more than the two batches in hand, and the streams keep the rest.",
    "database.back": "PostgreSQL can be used again.",
    "database.ready": "The PostgreSQL that `marketswarm up` runs accepts connections.",
    "deadman.failed": "The ping to the outside failed.",
    "deadman.resumed": "The ping to the outside is taken again.",
    "digest.resumed": "The bus works again, and digests are written.",
    "digest.waiting": "The bus fails, so no digest is written.",
    "digest.written": "A digest of a window of notes was written.",
    "direct.failed": "A channel did not take an alert of the sentinel; it is tried again.",
    "direct.heard": "The sentinel follows this bus's alert log again.",
    "direct.no_way_out": "The sentinel has no channel of its own, so it can't send what the notifier does not.",
    "direct.records_refused": "A bus does not let the sentinel read or write the records of what was sent.",
    "direct.records_taken": "All buses let the sentinel read and write the records of what was sent again.",
    "direct.refused": "A channel refused an alert of the sentinel for good.",
    "direct.sent": "The sentinel sent an alert by itself, since no other process had.",
    "direct.told_by_others": "Somebody else has sent this alert, so the sentinel does not.",
    "direct.unheard": "The sentinel can't follow this bus's alert log.",
    "direct.unsent": "No other process has sent this alert in time, so the sentinel does.",
    "direct.ways_out": "The channels of the sentinel itself.",
    "email.some_refused": "The mail server took the message, and refused some of its recipients.",
    "entries.read": "The streams of the bus can be read again.",
    "entries.unread": "A stream can't be read: its bus fails.",
    "entry.refused": "An entry is not a row that the archive can store: it is among the dead letters.",
    "events.taken": "Events were taken from the alert log; the fields are the decisions, and how many there were of each.",
    "exec.failed": "The command of a channel failed; the end of its output is in `said`.",
    "feed.failed": "A feed could not be read, for a reason that is new.",
    "feed.gone": "A feed is gone for good, by the answer of its server.",
    "feed.moved": "A feed has moved for good, and is read at its new address.",
    "feed.read": "A feed was read: its items, those that are new, and those that changed.",
    "feed.recovered": "A feed that failed can be read again.",
    "feed.unchanged": "A feed has not changed since it was last read.",
    "feeds.resumed": "The bus takes items of feeds again.",
    "feeds.stalled": "The bus fails, so no feed is read.",
    "fleet.elsewhere": "These services have no module here, so they are not started.",
    "fleet.left_out": "These services were not to be started.",
    "fleet.starting": "`marketswarm up` starts these agents.",
    "fleet.stopped": "All agents and servers have ended.",
    "fleet.stopping": "`marketswarm up` ends its agents, then its servers.",
    "fleet.up": "All agents are up.",
    "fleet.waiting": "These agents are not up yet.",
    "flow.fault": "Something is wrong with a stream or a reader: see [mesh](services/mesh.md#what-flows).",
    "flow.unwritten": "The bus does not take what mesh has found of the flow.",
    "flow.well": "What was wrong with a stream or a reader is over.",
    "flow.written": "The bus takes what mesh has found of the flow again.",
    "functions.loaded": "The bus was given the functions that agents call there.",
    "functions.refused": "The bus refused to load or delete a function; agents send their scripts themselves.",
    "functions.unavailable": "The bus does not let us load functions; agents send their scripts themselves.",
    "forks.failed": "The fork server of `marketswarm up` failed: what is started from now on takes longer, and more memory.",
    "gate.bus_away": "The bus fails, so the gate can't load a series; it is tried again for half a minute.",
    "gate.bus_back": "The bus works again, and series are loaded.",
    "gate.closed": "Too few series could be loaded, or a critical one is not fresh: readers don't start. `needed` is the share of all, `worst` the first ten that failed.",
    "gate.loading": "The gate still loads: so many series were tried. Not on a terminal, which has a bar.",
    "gate.open": "Enough series were loaded, and all critical ones: readers may start.",
    "gate.unwritten": "The bus does not take the state of the gate.",
    "gate.waiting": "The gate of the sources is closed: these services start once it opens. It is tried again.",
    "gate.written": "The bus takes the state of the gate again.",
    "history.begun": "There is no history that can be used, so a new one begins.",
    "history.log_lost": "The alert log has lost entries that were not recorded; that time is unknown.",
    "history.resumed": "The bus works again, and the history is recorded.",
    "history.waiting": "The bus fails, so nothing is recorded.",
    "item.dead": "An entry failed too often, and was moved to the dead letters.",
    "item.failed": "An entry failed, and is tried again.",
    "items.noted": "Entries of a stream were settled; `new` of them became notes.",
    "items.read": "The bus works again, and entries are read.",
    "items.unread": "The bus fails, so no entries are read.",
    "job.early": "The runs of a job have come too early for its schedule, three in a row: its time zone may be wrong.",
    "lease.answered": "The bus answers the healer's requests for its lease again.",
    "lease.held": "This process holds the lease: it leads.",
    "lease.lost": "This process does not hold the lease any more.",
    "lease.refused": "The bus fails or refuses, so the healer can't ask for its lease.",
    "lease.unusable": "The lease's key holds something that is not a lease; it is replaced.",
    "library.message": "A message of a library that we use, at its own level.",
    "llm.failed": "A question to the model failed; the digest is written without its summary.",
    "log.dropped": "So many lines were dropped, since the output did not take them in time.",
    "log.oversized": "An entry of the alert log is too large, and was skipped.",
    "logs.unwritable": "The log files of the fleet can't be written.",
    "maintenance.defect": "A job of the archive's maintenance met an error of ours: it is tried again, and the others go on.",
    "maintenance.failed": "A job of the archive's maintenance failed: a backup, partitions, sources or correlations.",
    "maintenance.resumed": "The bus that grants the lease of the maintenance can be used again.",
    "maintenance.waiting": "The bus that grants the lease of the maintenance can't be used.",
    "market.database_away": "The board can't read the archive's database; its pages show what the streams have.",
    "market.database_back": "The board reads the archive's database again.",
    "market.disconnected": "The connection to the market data API ended; there will be another one.",
    "market.entry_invalid": "An entry of a stream of the market is not a record: the board skips and counts it. It logs the first one for each reason.",
    "market.calendar_process_failed": "The process that computes when exchanges trade failed; the board computes it, "
    "and takes 50 MB more.",
    "market.feed_away": "The board can't follow the market on its bus; its pages show the last state.",
    "market.feed_back": "The board follows the market again.",
    "market.feed_failed": "What is on the bus broke the board's reader: what it said last stands, and all else is followed. It logs the first one of each kind.",
    "market.filled": "Gaps in the bars were filled.",
    "market.published": "The bus takes bars again.",
    "market.refused": "The truth names an address to which the key may not go, so there is no market data.",
    "market.states_invalid": "States of series or sources have values of another type or out of bounds: the board leaves them out.",
    "market.streaming": "The market data API streams.",
    "market.unfilled": "Gaps in the bars could not be filled; they are tried again.",
    "market.unpublished": "The bus does not take bars; they wait.",
    "medic.diagnosis_asked": "A bundle about an outage goes to the command or the endpoint of MEDIC_DIAGNOSIS_….",
    "medic.diagnosis_failed": "It gave no diagnosis that can be used; each reason is logged once until it gives one.",
    "medic.entry": "A step of an outage, as it is in its timeline: what was seen, refused, done or verified.",
    "medic.fuse_blown": "Too many remedies in a short time: nothing more is done until a person approves.",
    "medic.log_read": "The alert log of the bus can be read again.",
    "medic.log_skipped": "More was written to a log since the last look than is read; its end was.",
    "medic.log_too_varied": "A log has more kinds of lines than are kept: they are learned anew.",
    "medic.log_unread": "The alert log of the bus can't be read; outages are seen a little later.",
    "medic.read_again": "The notifier can read what the medic works on again.",
    "medic.resumed": "The bus works again after it failed, and the medic goes on.",
    "medic.rule_ended": "A rule no longer holds for its subject.",
    "medic.rule_holds": "A rule holds for its subject; with another severity than `info` it is an event, too.",
    "medic.superseded": "A medic with a newer lease has written: this one stops acting.",
    "medic.unread": "The notifier can't read what the medic works on, so no message waits for it.",
    "medic.waiting": "The bus fails, so the medic does nothing.",
    "mesh.bus_unknown": "The place of a bus is not known, so nothing on it is heard.",
    "mesh.clock_skew": "The clock of a service's instance is off.",
    "mesh.conflict": "More processes of a service run than its `replicas`.",
    "mesh.converged": "All instances go by the latest revision.",
    "mesh.crash_loop": "A service is restarted again and again.",
    "mesh.deaf": "The subscription to a bus is lost.",
    "mesh.hearing": "The subscription to a bus stands.",
    "mesh.not_recalled": "What mesh knew before its start could not be read yet.",
    "mesh.oversized": "A message is too long, and was skipped.",
    "mesh.recall_resumed": "The bus answers again, and mesh reads what it knew before its start.",
    "mesh.recalled": "What mesh knew before its start was read.",
    "mesh.stranger": "A service beats that the truth does not name.",
    "mesh.unwritten": "The bus does not take what mesh writes.",
    "mesh.written": "The bus takes what mesh writes again.",
    "message.failed": "A channel did not take a message; it is tried again.",
    "message.refused": "A channel refused a message for good; it goes to another channel or to the dead letters.",
    "message.rerouted": "A message that a channel refused goes to another one.",
    "message.sent": "A channel has accepted a message.",
    "metrics.failed": "An answer to `GET /metrics` failed.",
    "metrics.served": "The agent answers `GET /metrics` here.",
    "monitor.deaf": "A service beats, and is not heard: the session on its bus is opened anew.",
    "monitor.last_beat_unreadable": "A value of `beat:<svc>` is not a beat; it is left out.",
    "monitor.listening": "The session on a bus stands.",
    "monitor.lost": "The session on a bus is lost; silence does not count until there is another.",
    "monitor.memory_away": "The state of earlier runs can't be read yet; until then there are no verdicts.",
    "monitor.memory_back": "The state of earlier runs can be read again.",
    "monitor.monitoring": "The services and buses that are watched from now on.",
    "monitor.not_saved": "A bus does not take what a restart must know.",
    "monitor.recalled": "The state of earlier runs was read and applied; verdicts began meanwhile.",
    "monitor.runs_refused": "The healer may not read `run:<svc>`, where failures are that it did not hear: write the users anew.",
    "monitor.verdicts_not_logged": "Over 500 verdicts in a second: so many have no line of their own.",
    "monitor.saved_again": "A bus takes what a restart must know again.",
    "partitions.dropped": "Partitions whose rows are older than their table keeps were dropped.",
    "probe.broken": "The code of a probe raised an error that it should not.",
    "probe.changed": "The outcome of a target's probes is another one than before.",
    "probe.miss": "A target is down, by several probes in a row: `probe_miss`.",
    "probe.ok": "A target is up: `probe_ok`.",
    "probe.unwatched": "A target is not probed any more: `probe_unwatched`.",
    "probes.published": "The bus takes results of probes again.",
    "probes.unpublished": "The bus does not take results of probes; they wait.",
    "program.died": "An unexpected error ended the program, with code 1.",
    "program.exit": "The program ends with this code, for this reason.",
    "program.output": "A line that a program of the fleet wrote, and that is not a log event.",
    "publish.bound_reached": "Too many verdicts wait, so some were dropped that later ones make up for.",
    "publish.channel_refused": "The bus took an event on its log, and did not let us publish it on the channel.",
    "publish.entry_unreadable": "An entry of the roster could not be parsed; it was replaced.",
    "publish.log_full": "The log holds all that it may, and unread events are trimmed.",
    "publish.lost": "The bus has lost verdicts that it had taken; they are published again.",
    "publish.resumed": "The bus takes verdicts again.",
    "publish.waiting": "The bus does not take verdicts; they wait.",
    "reading.begun": "The notifier reads the alert log of this bus, from this entry on.",
    "reading.failed": "The alert log of a bus can't be read.",
    "reading.malformed": "An entry of the alert log can't be parsed; it is counted and acknowledged.",
    "reading.paused": "Too much waits to be acknowledged, so the notifier reads no more for now.",
    "reading.resumed": "The alert log of this bus is read again.",
    "refresh.done": "All series that were old by the schedule of the refresh were loaded.",
    "refresh.resumed": "The bus works again, and series are refreshed.",
    "refresh.stalled": "The bus fails, so the refresh waits.",
    "relay.outage_closed": "The healer closes an outage that a service (`by`) left open when it left the truth.",
    "relay.position_unreadable": "The place up to which a service's alerts were copied can't be read; the healer begins with the oldest.",
    "relay.resumed": "The bus works again, and alerts of services are copied.",
    "relay.skipped": "Entries of a service were not copied to the alert log, by reason.",
    "relay.waiting": "The bus fails, so the alerts of services wait.",
    "replay.begun_anew": "Another start or file of a recording begins on a bus that has played already: what was published does not come again, so play it with a new data folder.",
    "request.taken": "The notifier was asked to do something: an acknowledgement, a test, a resend.",
    "seeding.moved": "Another seeding changed a bus meanwhile; this one begins again.",
    "seeding.put_back": "A seeding failed, and this bus has its former truth again.",
    "seeding.stopped": "A seeding was cancelled; `left` names the buses that could not be put back.",
    "seeding.unannounced": "The new truth is on the bus, and could not be announced; agents find it by themselves.",
    "series.cut": "The limits of a source did not allow all parts of a question; of a history the oldest are missing, and asked for later.",
    "series.history": "The source that serves a series was asked for an older part of its history; how many new records came, and what is left.",
    "series.error": "A load of a series, or asking one source for it, ended with an error of ours: the others go on.",
    "series.fresh": "Series that had no fresh source have one again: the first twenty, and how many there are.",
    "series.resumed": "The bus works again, and series are loaded.",
    "series.session_unknown": "A source's file names a session that is not known: it counts as always open.",
    "series.stale": "Series have no fresh source, for these reasons: the first twenty, and how many there are.",
    "series.stalled": "The bus fails, so no series is loaded.",
    "series.switched": "Another source serves this series now.",
    "series.timeout": "A load of a series was given up.",
    "service.down": "The service is silent or says that it failed: `heartbeat_miss`.",
    "service.gap": "The service was not heard for a while, and is up: `heartbeat_gap`.",
    "service.unwatchable": "The bus does not let the healer hear this service: `watch_miss`.",
    "service.unwatched": "The service is not watched any more: the truth has dropped it.",
    "service.up": "The service is heard: `heartbeat_ok`.",
    "service.watchable": "The healer may hear this service again: `watch_ok`.",
    "share.changed": "The number of instances that share this work has changed.",
    "source.malformed": "Reading the answer of a source raised an unexpected error, whose traceback this is; the source has failed.",
    "source.miss": "A source gave no answer that can be used, several times in a row: `source_miss`.",
    "source.ok": "A source answers again: `source_ok`.",
    "source.unwatched": "A source that failed is not asked any more: `source_unwatched`.",
    "source_stream.closed": "The stream of a source has ended; what was missed is asked for.",
    "source_stream.error": "A stream of a source ended with an error of ours: its series are loaded, and it is tried again.",
    "source_stream.opened": "The stream of a source is connected, and sends minutes.",
    "sources.invalid": "What is stored as the state of some sources is none: the archive leaves it out, and counts it.",
    "state.unusable": "A value read back from a bus can't be used, and was skipped or replaced.",
    "store.dropped": "Too much waits for a bus that takes nothing, so the oldest was dropped; the fields say what.",
    "store.resumed": "The bus takes the notifier's state again.",
    "store.waiting": "The bus does not take the notifier's state; it waits.",
    "stream.lost": "Entries were trimmed off a stream before archive had stored them.",
    "task.died": "A side task of the agent failed: the agent ends.",
    "telegram.chat_moved": "The chat has become a group with another id, which is used from now on.",
    "term.not_begun": "This notifier has the lease and can't lead, since a bus fails.",
    "term.over": "This notifier does not lead any more.",
    "term.timed_out": "This notifier leads no more for now, since a bus did not answer in time.",
    "traces.dropped": "More happens than is recorded as traces; what is dropped is missing there alone.",
    "traces.failed": "The collector takes no traces: spans are lost until it does. Nothing else waits for it.",
    "traces.message": "The OpenTelemetry library reports a problem, such as a variable that it can't use; its values are left out.",
    "traces.on": "Traces of alerts go to this collector.",
    "traces.resumed": "The collector takes traces again; so many spans were lost.",
    "traces.unavailable": "A collector of traces is named, but the packages for it are not installed: there are no traces.",
    "traces.unsent": "The process ended before the collector had taken the last spans.",
    "truth.added": "The new truth has a service that the last one had not.",
    "truth.agrees": "All buses hold the same truth again: `truth_ok`.",
    "truth.applied": "The agent goes by another revision from now on.",
    "truth.bus_changed": "The new truth changes a bus.",
    "truth.changed": "The new truth changes a service.",
    "truth.doubt": "The truth file may be wrong at this place; it is seeded all the same.",
    "truth.drifted": "The buses do not hold the same truth: `truth_drift`.",
    "truth.dropped": "The new truth has a service no more.",
    "truth.fallback": "The agent took its truth from another bus than the first; `passed` says why.",
    "truth.mistake": "The truth file is wrong at this place, and is not seeded.",
    "truth.repaired": "A bus without the current truth was given it.",
    "truth.seeded": "The truth is on all buses.",
    "truth.trouble": "There is a truth that the agent can't go by, or none can be read; it keeps the one in force.",
    "truth.unchecked": "A check of the new truth raised an error that it should not; the truth is refused.",
    "truth.unfit": "A part of the agent can't go by the new truth; it keeps on by the last one.",
    "truth.unheard": "The agent does not hear of new truths on this bus; it looks for them after each beat.",
    "truth.waiting": "No bus has a truth that can be used; the agent waits.",
    "truth.well": "The agent can go by the latest truth again.",
    "users.bus_away": "A bus could not be asked for the rights of its users.",
    "users.old": "The users of a bus don't let the healer hear every service of the new truth.",
    "users.waiting": "Bootstrap waits until the healer may hear these services.",
}
"""What each event says, by its name."""

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True, slots=True)
class LogCall:
    """A call that logs one event. `doc` is the first sentence of the function around it."""

    event: str
    levels: tuple[str, ...]
    fields: tuple[str, ...]
    module: str
    doc: str


@dataclass(frozen=True, slots=True)
class LogEvent:
    """A row of the page: an event with all that its calls say about it."""

    name: str
    levels: tuple[str, ...]
    fields: tuple[str, ...]
    modules: tuple[str, ...]
    meaning: str


@cache
def find_events() -> tuple[LogEvent, ...]:
    """Sort the events of all packages by name."""
    calls: dict[str, list[LogCall]] = {}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            module = path.relative_to(ROOT).as_posix()
            for call in find_calls(module, path.read_text("utf-8")):
                calls.setdefault(call.event, []).append(call)
    return tuple(_merge_calls(name, found) for name, found in sorted(calls.items()))


def find_calls(module: str, source: str) -> Iterator[LogCall]:
    """Yield the calls of a module that log. Raise LookupError for one that can't be resolved."""
    if not any(name in source for name in ("log", *FLEET_LOGGERS)):  # to parse it is the slow part
        return
    tree = ast.parse(source)
    for function, call in _find_calls_by_function(tree, None):
        if isinstance(call.func, ast.Name) and call.func.id == OUTAGE:
            yield from _list_outage_events(module, function, call)
            continue
        found = _parse_log_call(tree, function, call)
        if found is None or (module, function.name if function else "") in FORWARDS:
            continue
        name, levels = found
        events = _resolve_names(tree, function, name)
        if not events:
            raise LookupError(f"{module}:{call.lineno}: which event is {ast.unparse(name)}?")
        is_paired = isinstance(name, ast.IfExp) and len(events) == len(levels) > 1
        for index, event in enumerate(events):
            its_levels = levels[index : index + 1] if is_paired else levels
            yield LogCall(event, its_levels, tuple(_list_fields(function, call)), module, _get_doc(function))


def _list_outage_events(module: str, function: Function | None, call: ast.Call) -> Iterator[LogCall]:
    """Yield the two events of an `Outage`, as if each were a call."""
    more = [each.arg for each in call.keywords if each.arg not in (None, "degrade")]
    for name, (level, fields) in zip(call.args[1:], OUTAGE_EVENTS, strict=True):
        yield LogCall(ast.literal_eval(name), (level,), (*fields, *more), module, _get_doc(function))


def render_page() -> str:
    rows = [
        f"| `{event.name}` | {', '.join(event.levels)} | {' '.join(f'`{each}`' for each in event.fields)} "
        f"| {event.meaning} | {', '.join(f'`{each}`' for each in event.modules)} |"
        for event in find_events()
    ]
    return "\n".join([_HEAD, *rows, ""])


def _merge_calls(name: str, calls: list[LogCall]) -> LogEvent:
    levels = {level for call in calls for level in call.levels}
    fields = dict.fromkeys(field for call in calls for field in call.fields)
    return LogEvent(
        name,
        tuple(level for level in LEVELS if level in levels),
        tuple(sorted(fields, key=lambda field: field == "…")),
        tuple(dict.fromkeys(call.module for call in calls)),
        MEANINGS.get(name) or calls[0].doc,
    )


def _find_calls_by_function(
    node: ast.AST, function: Function | None
) -> Iterator[tuple[Function | None, ast.Call]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Call):
            yield function, child
        inner = child if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef) else function
        yield from _find_calls_by_function(child, inner)


def _parse_log_call(
    tree: ast.Module, function: Function | None, call: ast.Call
) -> tuple[ast.expr, tuple[str, ...]] | None:
    """Return the expression of the event and its levels, or None if the call does not log."""
    target = call.func
    name = target.attr if isinstance(target, ast.Attribute) else getattr(target, "id", "")
    if name in FLEET_LOGGERS and len(call.args) > FLEET_LOGGERS[name]:
        place = FLEET_LOGGERS[name]
        level = call.args[place + 1] if len(call.args) > place + 1 else ast.Constant("info")
        return call.args[place], tuple(_resolve_names(tree, function, level)) or ("info",)
    if not call.args:
        return None
    if isinstance(target, ast.Name) and function is not None:  # write = log.error if … else log.warning
        values = _find_values(function, target.id)
        methods = [each for one in values for each in ast.walk(one) if isinstance(each, ast.Attribute)]
        levels = [found for each in methods if (found := _parse_level(each)) is not None]
        return (call.args[0], tuple(levels)) if levels else None
    if isinstance(target, ast.Call) and ast.unparse(target).startswith("getattr(log."):
        return call.args[0], tuple(SOME_LEVELS[ast.unparse(target.args[1])].split())
    if not isinstance(target, ast.Attribute):
        return None
    if target.attr == "log" and LOGGER.search(ast.unparse(target.value)):
        return call.args[1], tuple(SOME_LEVELS[ast.unparse(call.args[0])].split())
    level_name = _parse_level(target)
    return (call.args[0], (level_name,)) if level_name else None


def _parse_level(method: ast.Attribute) -> str | None:
    if method.attr not in LEVELS or not LOGGER.search(ast.unparse(method.value)):
        return None
    return "error" if method.attr == "exception" else method.attr


def _resolve_names(tree: ast.Module, function: Function | None, value: ast.expr) -> list[str]:
    """Return all texts that an expression may be, as far as constants say."""
    text = ast.unparse(value).replace("'", '"')
    if text in DYNAMIC:
        return list(DYNAMIC[text])
    if isinstance(value, ast.Constant):
        return [value.value] if isinstance(value.value, str) else []
    if isinstance(value, ast.IfExp):
        return [
            *_resolve_names(tree, function, value.body),
            *_resolve_names(tree, function, value.orelse),
        ]
    if isinstance(value, ast.Name):
        found = _find_values(function, value.id) if function is not None else []
        return [
            each
            for one in found or _find_values(tree, value.id)
            for each in _resolve_names(tree, function, one)
        ]
    if isinstance(value, ast.Subscript):
        return _resolve_names(tree, function, value.value)
    if isinstance(value, ast.Call) and isinstance(value.func, ast.Attribute) and value.func.attr == "get":
        return _resolve_names(tree, function, value.func.value)
    if isinstance(value, ast.Dict):
        return [each for one in value.values for each in _resolve_names(tree, function, one)]
    return []


def _find_values(scope: ast.Module | Function, name: str) -> list[ast.expr]:
    """Return what is assigned to a name; in a module, only by its own body."""
    return _index_values(scope).get(name, [])


@cache  # a tree is asked for each of its calls
def _index_values(scope: ast.Module | Function) -> dict[str, list[ast.expr]]:
    nodes = ast.iter_child_nodes(scope) if isinstance(scope, ast.Module) else ast.walk(scope)
    values: dict[str, list[ast.expr]] = {}
    for node in nodes:
        if not isinstance(node, ast.Assign | ast.AnnAssign) or node.value is None:
            continue
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        for name in {target.id for target in targets if isinstance(target, ast.Name)}:
            values.setdefault(name, []).append(node.value)
    return values


def _list_fields(function: Function | None, call: ast.Call) -> Iterator[str]:
    """Yield the names of an event's fields; … for those that are known only while the program runs."""
    yield from _list_keys(call.args)
    for keyword in call.keywords:
        if keyword.arg is not None:
            yield "exception" if keyword.arg == "exc_info" else keyword.arg
            continue
        values = [keyword.value]
        if isinstance(keyword.value, ast.Name) and function is not None:
            values = _find_values(function, keyword.value.id)
        yield from _list_keys(values) or ["…"]
    if isinstance(call.func, ast.Attribute) and call.func.attr == "exception":
        yield "exception"


def _list_keys(values: list[ast.expr]) -> list[str]:
    keys = [key for value in values if isinstance(value, ast.Dict) for key in value.keys]
    return [key.value for key in keys if isinstance(key, ast.Constant) and isinstance(key.value, str)]


def _get_doc(function: Function | None) -> str:
    text = (ast.get_docstring(function) if function is not None else None) or ""
    return " ".join(re.split(r"(?<=\.)\s", text, maxsplit=1)[0].split()).replace("|", "\\|")


_HEAD: Final = """\
# Log events

<!-- made by tools/log_events.py: change the code or the table in there, then run .venv/bin/python tools/log_events.py -->

Every event that a program of MarketSwarm may log. `marketswarm logs` shows them; where logs are kept:
[operating](operating.md).

```text
{"ts":"2026-01-05T09:12:44.031Z","level":"warning","event":"beat.failed","agent":"mesh","bus":"system-redis","reason":"refused","i":31}
```

- Each line has `ts` (UTC), `level`, `event` and `agent`; `part` names the part of the agent, where it is not the agent
  itself. Then come the fields of the event.
- A field is there in each line of its event unless it has nothing to say; … stands for fields that depend on what
  happened. `exception` is a traceback.
- `LOG_LEVEL` is the least level that is logged: `DEBUG`, `INFO` (the default), `WARNING`, `ERROR` or `CRITICAL`.
- `reason` is one of the [reasons](detection.md#reasons) where it is about a bus.
- Most events about something that lasts are logged once when it begins, and once when it ends.
- What is published as an alert is another thing: [alerts](operating.md#read-alerts).

| event | level | fields | what it says | logged in |
| --- | --- | --- | --- | --- |"""


def main() -> int:
    """With `--check` compare the page instead of writing it."""
    made = render_page()
    is_current = PAGE.exists() and PAGE.read_text("utf-8") == made
    if "--check" in sys.argv[1:]:
        if not is_current:
            print(f"{PAGE.relative_to(ROOT)} is not current: run .venv/bin/python tools/log_events.py")
        return not is_current
    if not is_current:
        PAGE.write_text(made, "utf-8")
        print(f"wrote {PAGE.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
