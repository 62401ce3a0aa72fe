"""Whatever happens in whatever order: nobody hears of an end without a beginning, and nothing stays open."""

import orjson
import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from marketswarm.event import Kind
from notifier.router.healing import MedicState
from notifier.router.incident import Decision
from support.examples import examples
from support.simulation.router import Town

TREE = {
    "a": {},
    "b": {"depends_on": ["a"]},
    "c": {"depends_on": ["b"], "tags": ["ingest"]},
    "d": {"severity": "critical"},
}
MEDIC = {"medic": {"settings": {"mode": "act"}}}
STATES = ["waiting", "intended", "settling", "stabilizing", "open", "escalated"]
ROUTES = [{"severities": ["critical"], "channels": ["pager"]}, {"channels": ["ops"]}]
HOUR, DAY = 3600.0, 86_400.0
HOLD_SEC, CHECK_SEC = 60.0, 1.0

services = st.sampled_from(sorted(TREE))
waits = st.sampled_from([0.0, 0.1, 1.0, 5.0, 31.0, 200.0, 1000.0])


class Machine(RuleBasedStateMachine):
    @initialize(
        wait=st.sampled_from([0.0, 2.0, 10.0]),
        limit=st.sampled_from([0.0, 60.0, 300.0]),
        routes=st.sampled_from([[], ROUTES]),
    )
    def begin(self, wait, limit, routes):
        self.town = Town(
            TREE | MEDIC,
            ["ops", "pager"],
            group_wait_sec=wait,
            rate_limit_sec=limit,
            routes=routes,
            escalate=[{"after_sec": 600, "channels": ["pager"]}],
        )
        self.is_down = dict.fromkeys(TREE, False)
        self.read = 0
        self.healed: set[str] = set()  # ids of the misses of outages that were healed

    @rule(svc=services, then=waits)
    def change(self, svc, then):
        self.is_down[svc] = not self.is_down[svc]
        before = next((each for each in self.town.router.open_incidents() if each.svc == svc), None)
        decision = (self.town.down if self.is_down[svc] else self.town.up)(svc)
        if before is not None and before.held is Decision.HEALING:
            assert decision in (Decision.HEALED, Decision.FLAPPING), (
                "an outage that waited for the medic is lost"
            )
        if before is not None and decision is Decision.HEALED:
            self.healed.add(before.id)
        assert (svc, decision) != ("d", Decision.HEALING), "what is critical waits for nothing"
        self.town.run(max(then, 0.01))  # nothing changes twice in a millisecond

    @rule(svc=services, times=st.integers(1, 12))
    def flap(self, svc, times):
        for _ in range(times):
            self.change(svc, 1.0)

    @rule(then=waits)
    def fall_all(self, then):
        for svc in sorted(TREE, reverse=True):
            if not self.is_down[svc]:
                self.change(svc, 0.0)
        self.town.run(then)

    @rule(svc=services, sec=st.sampled_from([20.0, 500.0]))
    def be_silent(self, svc, sec):
        self.town.be_silent(svc, sec=sec)

    @rule(svc=services)
    def ack(self, svc):
        self.town.router.acknowledge(svc, "ada")

    @rule(
        svc=services,
        state=st.sampled_from(STATES),
        verdict=st.sampled_from(["pending", "verified", "failed", "relapsed"]),
        refusal=st.sampled_from([None, "one_at_a_time", "observed"]),
        then=waits,
    )
    def heal(self, svc, state, verdict, refusal, then):
        if not self.is_down[svc]:
            self.town.lead()
            self.change(svc, 0.0)
        self.town.heal(
            svc,
            state,
            ("wait", self.town.now, "failed"),
            ("restart", self.town.now, verdict),
            refusal=refusal,
        )
        self.town.run(then)

    @rule(is_leading=st.booleans())
    def have_a_medic(self, is_leading):
        self.town.lead(is_leading)

    @rule()
    def forget_repairs(self):
        self.town.medic = MedicState(is_leading=True)

    @rule()
    def restart(self):
        self.town.restart()

    @rule(then=waits)
    def nobody_for_a_while(self, then):
        self.town.router.set_channels([])
        self.town.run(then)
        self.town.router.set_channels(self.town.open)

    @rule(svc=services)
    def gap(self, svc):
        event, raw = self.town.event(Kind.HEARTBEAT_GAP, svc, gap_sec=5.0)
        self.town.take(event, raw)

    @invariant()
    def what_is_said_makes_sense(self):
        if not hasattr(self, "town"):
            return
        told: set[str] = set()  # services of which people know that they are, or may be, down
        for _, message, _ in self.town.messages:
            events = [orjson.loads(raw) for raw in message.events]
            misses = {event["svc"] for event in events if event["type"].endswith("miss")}
            oks = {event["svc"] for event in events if event["type"].endswith("ok")}
            assert oks <= told | misses, f"the end of what nobody was told of: {oks - told - misses}"
            told |= misses
        for each in self.town.router.open_incidents():
            if each.held is Decision.HEALING:
                assert self.town.now - each.held_at <= HOLD_SEC + CHECK_SEC, "held for longer than it may be"
        ids = [message.id for _, message, _ in self.town.messages]
        assert len(ids) == len(set(ids)), "one id for two messages"

    def teardown(self):
        if not hasattr(self, "town"):
            return
        self.town.run(HOUR)
        down = {svc for svc, is_down in self.is_down.items() if is_down}
        known = {each.svc for each in self.town.router.open_incidents() if each.is_notified}
        with_cause = {"b": {"a"}, "c": {"a", "b"}}
        untold = {svc for svc in down - known if not with_cause.get(svc, set()) & down}
        assert not untold, f"down, and nobody was told: {untold}"
        for svc in sorted(down):
            self.change(svc, 0.0)
        self.town.restart()  # nothing of the digest may be in memory only
        self.town.run(DAY + HOUR)
        sent = {orjson.loads(raw)["id"] for _, message, _ in self.town.messages for raw in message.events}
        assert self.healed <= sent, f"healed, and in no digest: {self.healed - sent}"
        open_threads: set[str] = set()
        for _, message, _ in self.town.messages:
            open_threads -= set(message.closes)
            if message.opens:
                open_threads.add(message.thread)
        assert not open_threads, f"threads that nobody closes: {open_threads}"
        due = self.town.router.next_due()
        assert due is None, f"all is well, and something is due at {due}: {self.town.kept}"
        assert not [name for name in self.town.kept if name.startswith(("r:l:", "r:d:", "r:e:"))], (
            self.town.kept
        )


TestMachine = pytest.mark.timeout(900)(Machine.TestCase)  # a busy machine may take ten times as long
# to shrink what was found takes minutes; whoever mends it can have that by HYPOTHESIS_PROFILE=explore
PHASES = tuple(Phase) if settings().max_examples > 1000 else (Phase.explicit, Phase.generate)
TestMachine.settings = settings(settings(), max_examples=examples(60), stateful_step_count=30, phases=PHASES)
