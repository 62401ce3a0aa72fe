"""Find what is wrong with the flow of data. Pure: from the graph, the services that are up, and the settings.

| what | means |
| --- | --- |
| `no_writer` | a service reads the key, and no service of the truth writes it |
| `writer_down` | a service reads the key, and all its writers are down |
| `never_written` | a service reads the key, a writer is up, and nothing was ever written |
| `writer_silent` | a writer is up, and nothing was written for too long |
| `no_group` | a reader is up that reads by a consumer group, and has none there |
| `falls_behind` | the oldest unacknowledged entry of a group waits for too long |
| `trimmed_unread` | entries were trimmed before a group had read them |
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Final

from marketswarm.access.services import reads_by_group
from marketswarm.text import format_duration, format_names
from marketswarm.truth.flows import FlowFault, Key, find_unwritten_keys
from services.mesh.flow_graph import FlowGraph, KeyState, Presence
from services.mesh.flow_reader import ConsumerGroup
from services.mesh.settings import FlowSettings

FAULT_KINDS: Final = (
    *("no_writer", "writer_down", "never_written", "writer_silent"),
    *("no_group", "falls_behind", "trimmed_unread"),
)
MAX_FAULTS: Final = 100


@dataclass(frozen=True, slots=True)
class FaultFinder:
    """Find the faults of one graph."""

    graph: FlowGraph
    presence: Presence
    settings: FlowSettings

    def faults(self) -> list[FlowFault]:
        """Return each fault once, at most MAX_FAULTS."""
        found = [self._with_proof(fault) for fault in find_unwritten_keys(self.graph.flows)]
        for one in self.graph.keys.values():
            found += self._find_writer_faults(one)
            found += self._find_reader_faults(one)
        return found[:MAX_FAULTS]

    def _with_proof(self, fault: FlowFault) -> FlowFault:
        """Return a fault of an unwritten key; add to its text if entries arrive there nevertheless."""
        one = self.graph.keys.get(Key(fault.bus, fault.key))
        if one is None or not one.seen.rate:
            return fault
        rate = f"{one.seen.rate:.2g} entries a second"
        return replace(fault, text=f"{fault.text}; someone does, whom the truth does not name: {rate}")

    def _find_writer_faults(self, one: KeyState) -> Iterator[FlowFault]:
        flows, seen = self.graph.flows, one.seen
        writers, readers = flows.writers(one.key), flows.readers(one.key)
        expected_sec = self.settings.expect_sec.get(one.key.name)
        if not writers or not (readers or expected_sec):
            return
        if self.presence.down.issuperset(writers) and not seen.rate:
            are = "is" if len(writers) == 1 else "are"
            why = f"nobody writes it: {format_names(writers)} {are} down"
            yield FlowFault("writer_down", *one.key, None, why)
            return
        up_sec = max((self.presence.up_sec.get(svc, 0.0) for svc in writers), default=0.0)
        if self.settings.is_quiet(one.key.name):
            return
        who = next(svc for svc in writers if self.presence.up_sec.get(svc, 0.0) == up_sec) if up_sec else ""
        never = seen.kind == "none" or (seen.kind == "stream" and not seen.added and not seen.length)
        if never and up_sec > self.settings.behind_sec:
            why = f"nothing was ever written there, though {who} is up for {format_duration(up_sec)}"
            yield FlowFault("never_written", *one.key, who, why)
        allowed_sec = expected_sec or self.settings.silent_sec
        if not never and seen.last_sec is not None and min(seen.last_sec, up_sec) > allowed_sec:
            silent, up = format_duration(seen.last_sec), format_duration(up_sec)
            why = f"nothing new for {silent}, though {who} is up for {up}"
            yield FlowFault("writer_silent", *one.key, who, why)

    def _find_reader_faults(self, one: KeyState) -> Iterator[FlowFault]:
        if one.seen.kind != "stream" or one.seen.groups is None:
            return
        for svc in self.graph.flows.readers(one.key):
            group = one.groups.get(svc)
            if group is not None:
                yield from self._find_group_faults(one, svc, group)
            elif self._needs_group(svc, one):
                up = format_duration(self.presence.up_sec[svc])
                why = f"{svc} is up for {up} and has no consumer group there"
                yield FlowFault("no_group", *one.key, svc, why)
        for group in one.seen.groups:
            if group not in one.groups.values():
                yield from self._find_group_faults(one, None, group)

    def _needs_group(self, svc: str, one: KeyState) -> bool:
        needs_one = reads_by_group(svc, one.key.name)
        if needs_one is None:
            may_lack = any(fnmatchcase(one.key.name, pattern) for pattern in self.settings.no_group)
            needs_one = svc in self.graph.named or not (one.seen.groups or may_lack)
        return needs_one and self.presence.up_sec.get(svc, 0.0) > self.settings.behind_sec

    def _find_group_faults(self, one: KeyState, svc: str | None, group: ConsumerGroup) -> Iterator[FlowFault]:
        """`svc` is the reader of the group; None if the truth has none."""
        name = f"group {group.name}"
        whose = f" of {svc}" if svc != group.name else ""
        if not svc:
            whose = ", which is no reader's of the truth,"
        if one.seen.added is not None and group.read is not None:
            lost = one.seen.added - group.read - one.seen.length  # which the server's `lag` omits
            if lost > 0:
                text = f"{lost} entries were trimmed before {name}{whose} had read them"
                yield FlowFault("trimmed_unread", *one.key, svc, text)
        if group.oldest_sec is not None and group.oldest_sec > self.settings.behind_sec:
            unread = "? unread" if group.lag is None else f"{group.lag} unread"
            down = f"; {svc} is down" if svc in self.presence.down else ""
            text = (
                f"{name}{whose} falls behind: {unread}, {group.pending} taken and not settled, "
                f"the oldest waits for {format_duration(group.oldest_sec)}{down}"
            )
            yield FlowFault("falls_behind", *one.key, svc, text)
