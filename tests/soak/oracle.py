"""Holds the told history against the ledger: what was told falsely, twice, out of order, late, or not at all.

Pure. Three things are asked of each service: was every miss earned, was every outage told that somebody
listened to for long enough, and did each miss end as it had to. `soak.order` and `soak.lost` ask the rest.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from math import inf
from typing import Any, NamedTuple

from soak.ledger import HOME, Ledger, Terms
from soak.listening_times import Hearing
from soak.stretches import Stretch, around, common, merged, total, touching, without

SLACK_SEC = 2.5
"""What bounds leave to two cores that many processes share."""
NOISE_SEC = 0.1
ON_ITS_WAY_SEC = 0.3
"""A beat this young may not have been heard when the verdict was reached."""
SLOW_WIRE_SEC = 1.5
"""The same while a wire is slow."""
SEEDING_SEC = 5.0
"""From the moment a seeding began to the one at which everybody who hears has it."""
SAVE_LAG_SEC = 1.5
"""What a healer that is killed has heard and not saved."""
DOUBT_SEC = 1.5
HEALER = "healer"


class Told(NamedTuple):
    """One event of a bus's durable log, and when the bus wrote it (epoch seconds)."""

    bus: str
    at: float
    event: dict[str, Any]

    @property
    def what(self) -> str:
        return self.event["type"].rpartition("_")[2]

    @property
    def ts(self) -> float:
        return self.event["ts"]


class Finding(NamedTuple):
    """One thing that is not as it should be; `kind` is one of the ledger's columns."""

    kind: str
    svc: str
    at: float
    text: str
    event: dict[str, Any] | None = None


class Down(NamedTuple):
    """From a miss to what closed it."""

    miss: Told
    closed: Told | None

    @property
    def end(self) -> float:
        return inf if self.closed is None else self.closed.at


@dataclass(slots=True)
class Account:
    """What a look at the ledger brought."""

    findings: list[Finding] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    worst_delay: tuple[float, str, float] = (0.0, "", 0.0)

    def find(self, kind: str, svc: str, at: float, text: str, event: dict[str, Any] | None = None) -> None:
        self.findings.append(Finding(kind, svc, at, text, event))

    def delayed(self, sec: float, svc: str, at: float) -> None:
        self.worst_delay = max(self.worst_delay, (sec, svc, at))


def judge_services(ledger: Ledger, told: list[Told], hearing: Hearing, account: Account) -> None:
    """Asks all there is to ask of each service, and of the healer as the sentinel sees it."""
    by_svc: dict[str, list[Told]] = defaultdict(list)
    for one in told:
        family = one.event["type"].rpartition("_")[0]
        if one.bus == HOME and family in ("heartbeat", "healer"):
            by_svc[one.event["svc"]].append(one)
    for svc in by_svc.keys() - ledger.terms.keys():
        one = by_svc[svc][0]
        account.find("false", svc, one.at, "nobody was to be told of it", one.event)
    for svc in ledger.terms:
        _Service(svc, ledger, by_svc[svc], hearing, account).judge()


class _Service:
    def __init__(
        self, svc: str, ledger: Ledger, told: list[Told], hearing: Hearing, account: Account
    ) -> None:
        self.svc, self.ledger, self.told, self.account = svc, ledger, told, account
        self.hearing, self.until = hearing, hearing.until
        self.beats = ledger.of(svc)
        self.terms = ledger.terms[svc]
        self.bus = self.terms[0].bus
        begun = {terms.since for terms in self.terms}
        self.drops = [terms.until for terms in self.terms if terms.until not in (inf, *begun)]
        self.alone = svc == HEALER or ledger.healers == 1
        self.listened = hearing.watched_over() if svc == HEALER else hearing.listened(self.bus)
        self.disturbed = without([(ledger.began, self.until)], self.listened)
        self.doubtful = self._doubtful()
        self.downs = list(self._downs())

    def judge(self) -> None:
        for down in self.downs:
            self._earned(down.miss)
            self._closed(down)
            self._justified(down)
        for one in self.told:
            if one.what == "gap":
                self._gap(one)
        for terms in self.terms:
            self._outages(terms)

    def _downs(self) -> Iterator[Down]:
        miss: Told | None = None
        for one in self.told:
            if one.what == "miss":
                if miss is not None:
                    yield Down(miss, None)._replace(closed=one)  # two in a row: `order` says so
                miss = one
            elif one.what in ("ok", "unwatched") and miss is not None:
                yield Down(miss, one)
                miss = None
        if miss is not None:
            yield Down(miss, None)

    def _doubtful(self) -> list[Stretch]:
        """When a beat may have reached somebody although no answer says so."""
        away = without([(self.ledger.began, self.until)], self.hearing.takes(self.bus))
        if self.svc in self.ledger.agents:
            return away
        found = []
        for at in list(self.beats.doubts):
            fault = around(away, at)
            found.append((at - NOISE_SEC, max(at + DOUBT_SEC, fault[1] if fault else 0.0)))
        return merged(found)

    # -- was a miss earned?

    def _earned(self, miss: Told) -> None:
        self.account.counts["misses told"] += 1
        in_force = [t for t in self.terms if t.since - NOISE_SEC <= miss.ts <= self._learned(t.until)]
        if not in_force:
            self._false(miss, "it was not watched then")
            return
        stated = miss.event["timeout_sec"]
        if all(abs(stated - t.timeout_sec) > 0.001 for t in in_force):
            self._false(miss, f"its timeout is none of {sorted({t.timeout_sec for t in in_force})}")
            return
        last = self.beats.last_before(miss.ts - self._on_its_way(miss.ts))
        warm_up = min(t.warm_up_sec for t in in_force)
        since = min(t.since for t in in_force)
        known = max(t.seeded for t in in_force) if miss.event.get("reason") == "never_seen" else since
        if last is None or last < max(since, known):
            if miss.ts - since < warm_up - NOISE_SEC:
                self._false(miss, f"watched for {miss.ts - since:.3f} s only")
            return
        silent = miss.ts - last
        if silent < stated - NOISE_SEC and not self._unheard(last, silent, miss, warm_up):
            self._false(miss, f"it was silent for {silent:.3f} s, and {stated:g} s are its timeout")

    def _unheard(self, last: float, silent: float, miss: Told, warm_up: float) -> bool:
        """Whether the last beat fell into a time in which nobody need have heard it."""
        fault = around(self.disturbed, last)
        if fault is None:
            return False
        if silent >= warm_up - NOISE_SEC:
            return True
        before = self.beats.last_before(fault[0])
        first = self.beats.first_after(fault[0])
        return before is not None and first is not None and first - before >= miss.event["timeout_sec"]

    def _on_its_way(self, at: float) -> float:
        slow = any(
            s.kind == "delay" and s.start - 1 <= at <= s.end + 2
            for s in self.ledger.spells
            if s.target.startswith("wire:")
        )
        return SLOW_WIRE_SEC if slow else ON_ITS_WAY_SEC

    def _false(self, miss: Told, why: str) -> None:
        self.account.find("false", self.svc, miss.at, why, miss.event)

    def _learned(self, at: float) -> float:
        """By when those who listen must know what was seeded then."""
        if at == inf:
            return inf
        for start, end in touching(self.listened, at, inf):
            known = max(start, at) + SEEDING_SEC
            if known <= end:
                return known
        return inf

    # -- was every outage told?

    def _outages(self, terms: Terms) -> None:
        first = terms is self.terms[0]
        since, until = terms.since + (0 if first else SEEDING_SEC), min(terms.until, self.until)
        if since >= until:
            return
        silences = merged(self.beats.silences(self.ledger.began, self.until))
        for start, end in common([(since, until)], silences):
            if end - start < terms.timeout_sec:
                self.account.counts["pauses below T"] += 1
                continue
            self.account.counts["outages made"] += 1
            dues = [
                due
                for piece in without([(start, end)], self.doubtful)
                if (due := self._due(piece, terms)) is not None
            ]
            down = any(d.miss.at <= end + SLACK_SEC and d.end >= start for d in self.downs)
            self.account.counts["outages told"] += down
            self.account.counts["outages owed"] += bool(dues)
            for due in dues:
                self._owed(due, due + terms.warm_up_sec + SLACK_SEC, (start, end))

    def _due(self, piece: Stretch, terms: Terms) -> float | None:
        """When a miss of that silence was due at the latest; None if it may have stayed untold.

        Listening for T in one stretch is enough. So is T + W, however interrupted, where one
        healer adds it up; of two, the one that speaks now may not have heard what the other did. A warm-up
        more is left to a gap that no fault of ours made: this machine may be too busy for a healer to hear.
        """
        have = 0.0
        for start, end in common([piece], self.listened):
            need = max(0.0, min(terms.timeout_sec, terms.timeout_sec + terms.warm_up_sec - have))
            if end - start >= need + terms.warm_up_sec + SLACK_SEC:
                return start + need
            if self.alone:
                have += max(0.0, end - start - SAVE_LAG_SEC)
        return None

    def _owed(self, due: float, limit: float, silence: Stretch) -> None:
        start, end = silence
        own = [d.miss for d in self.downs if start < d.miss.at <= end + SLACK_SEC]
        if own and own[0].at > due:
            self.account.delayed(own[0].at - due, self.svc, own[0].at)
            self.account.counts["told over a second late"] += own[0].at - due > 1
        if any(d.miss.at <= limit and d.end >= due for d in self.downs):
            return
        if own:
            late = own[0]
            text = f"told {late.at - due:.3f} s after it was due; silent since {start:.3f}"
            self.account.find("late", self.svc, late.at, text, late.event)
        else:
            text = f"silent from {start:.3f} to {end:.3f}, due at {due:.3f}, and no miss"
            self.account.find("missed", self.svc, due, text)

    # -- did each miss end as it had to?

    def _closed(self, down: Down) -> None:
        at = down.miss.at
        dropped = min((drop for drop in self.drops if drop > at), default=inf)
        for start, end in touching(self.listened, at, self.until):
            begin = max(start, at)
            back = self.beats.first_after(begin)
            if back is None or begin >= dropped:
                break
            if back + SLACK_SEC <= min(end, dropped):
                if down.end > back + SLACK_SEC:
                    text = f"it beat again at {back:.3f}, and no ok by {back + SLACK_SEC:.3f}"
                    self.account.find("no ok", self.svc, back, text, down.miss.event)
                return
        known = self._learned(dropped) + SLACK_SEC
        again = min((t.since for t in self.terms if t.since > dropped), default=inf)
        if known <= min(self.until, again) and down.end > known:
            text = f"dropped at {dropped:.3f}, and nothing closed its miss by {known:.3f}"
            self.account.find("no ok", self.svc, dropped, text, down.miss.event)

    def _justified(self, down: Down) -> None:
        closed = down.closed
        if closed is None:
            return
        since, until = down.miss.ts - self._on_its_way(down.miss.ts), closed.ts + NOISE_SEC
        if closed.what == "ok":
            fits = self.beats.any_between(since, until) or any(touching(self.doubtful, since, until))
            text = "an ok, and it did not beat"
        else:
            ends = [drop for drop in self.drops if drop <= closed.ts + NOISE_SEC]
            fits = any(self._learned(end) >= since for end in ends)
            text = "unwatched, and the truth still names it"
        if closed.what != "miss" and not fits:
            self.account.find("false", self.svc, closed.at, text, closed.event)

    def _gap(self, one: Told) -> None:
        """What happened while nobody listened: there must have been such a while, and such a thing."""
        self.account.counts["gaps told"] += 1
        gap_sec, since = one.event.get("gap_sec") or 0.0, self.ledger.began
        pauses = self.beats.silences(since, self.until)
        silent = any(end - start >= gap_sec - 1 and start <= one.ts for start, end in pauses)
        restarted = any(at <= one.ts + NOISE_SEC for at in self.beats.restarts)
        unheard = total(common([(since, one.ts)], self.disturbed)) > 0
        if not unheard or not (silent or restarted):
            text = f"restarted: {restarted}, silent so long: {silent}, unheard: {unheard}"
            self.account.find("false", self.svc, one.at, text, one.event)
