"""When somebody could provably hear, worked out from what was broken and from nothing that the product said.

Conservative on purpose: after each fault there is a while that counts as disturbed still, and of two healers
only a stretch in which it is certain who speaks, and that he hears, counts as listened to.
"""

from collections.abc import Callable, Collection, Iterable

from soak.ledger import ANSWERED, AWAY, GONE, HOME, LOADING, Ledger, Spell
from soak.stretches import Stretch, common, merged, without

SETTLE_SEC = 3.0
"""After a fault of a bus or of a wire: a client's pause, a new session, the first canary."""
START_SEC = 5.0
"""After the start of a process: Python's own, and the memory."""
TAKING_OVER_SEC = 1.0
"""What a lease and a second leave to a busy machine."""
BEFORE_SEC = 0.3
"""A fault is written down when it is made; its first victim may have been on its way."""


class Hearing:
    """Who heard what up to `until`; made anew for each look at a ledger that grows."""

    def __init__(self, ledger: Ledger, until: float) -> None:
        self.ledger, self.until = ledger, until
        self._cache: dict[object, list[Stretch]] = {}

    def listened(self, bus: str) -> list[Stretch]:
        """The healers, or the one of them that speaks, heard that bus and could tell it at home."""
        return self._once(("listened", bus), lambda: without(self._whole(), self._deaf(bus)))

    def disturbed(self, bus: str) -> list[Stretch]:
        return self._once(("disturbed", bus), lambda: without(self._whole(), self.listened(bus)))

    def watched_over(self) -> list[Stretch]:
        """The sentinel heard home."""
        return self._once(
            "watched_over",
            lambda: without(self._whole(), merged(self._of(f"bus:{HOME}", "agent:sentinel", "machine"))),
        )

    def takes(self, bus: str) -> list[Stretch]:
        """The bus itself took what it was given."""
        return self._once(
            ("takes", bus), lambda: without(self._whole(), merged(self._of(f"bus:{bus}", "machine")))
        )

    def lost(self, bus: str, *, settled: float = 0.0) -> list[Stretch]:
        """No healer could reach that bus."""
        found = self._whole()
        for healer in self._healers():
            found = common(found, self.lost_to(healer, bus, settled=settled))
        return found

    def lost_to(self, healer: int, bus: str, *, settled: float) -> list[Stretch]:
        targets = (f"bus:{bus}", f"wire:{healer}:{bus}")
        return merged(
            (spell.start, min(spell.end + settled, self.until))
            for spell in self.ledger.spells
            if spell.target in targets and spell.kind in AWAY
        )

    def hampered(self, healer: int, bus: str) -> list[Stretch]:
        """Something was done to that bus, or between the two, or to the healer itself, or is felt still."""
        return merged(self._of(f"bus:{bus}", f"wire:{healer}:{bus}", f"healer:{healer}", "machine"))

    def reached_none(self, healer: int, buses: Iterable[str]) -> list[Stretch]:
        """None of these buses, which are all there are, gave that healer any answer."""
        found = self._whole()
        for bus in buses:
            server, wire = (self._made(at, AWAY - ANSWERED) for at in (f"bus:{bus}", f"wire:{healer}:{bus}"))
            server = without(server, self._made(f"bus:{bus}", {LOADING}))
            found = common(found, merged([*server, *wire]))
        return found

    def stood_still(self) -> list[Stretch]:
        """This machine itself stood still or had hardly a processor, or that was felt still."""
        return self._once("stood_still", lambda: merged(self._of("machine")))

    def ran(self, healer: int) -> list[Stretch]:
        """That healer was up, and had been for a while; so was this machine."""
        return without(self._whole(), merged(self._of(f"healer:{healer}", "machine")))

    def could_speak(self) -> list[Stretch]:
        """Some healer was up, and had been for a while."""
        return self._once("could_speak", self._speaking)

    def _speaking(self) -> list[Stretch]:
        everyone = self._whole()
        for healer in self._healers():
            everyone = common(everyone, merged(self._of(f"healer:{healer}")))
        return without(self._whole(), merged([*everyone, *self._handovers(), *self._of("machine")]))

    # -- how it is worked out

    def _deaf(self, bus: str) -> list[Stretch]:
        for_all = self._of(f"bus:{bus}", f"bus:{HOME}", "machine")
        if self.ledger.healers == 1:
            return merged([*for_all, *self._of("healer:1", f"wire:1:{bus}", f"wire:1:{HOME}")])
        out = self._whole()
        wires: list[Stretch] = []
        for healer in self._healers():
            own = self._of(f"wire:{healer}:{bus}", f"wire:{healer}:{HOME}")
            # who leads is not ours to know: while one is cut off from something, nobody need hear it
            wires += own
            out = common(out, merged([*own, *self._of(f"healer:{healer}")]))
        return merged([*for_all, *wires, *out, *self._handovers()])

    def _handovers(self) -> list[Stretch]:
        """Around the end and the return of each healer: another may have to take over."""
        if self.ledger.healers == 1:
            return []
        takeover = self.ledger.lease_sec + 1 + TAKING_OVER_SEC
        edges = []
        for spell in self.ledger.spells:
            if spell.target.startswith("healer:"):
                edges.append((spell.start - BEFORE_SEC, spell.start + takeover))
                edges.append((spell.end, spell.end + SETTLE_SEC))
                if spell.kind not in GONE:
                    edges.append((spell.start, spell.end + SETTLE_SEC))
        return self._clipped(edges)

    def _of(self, *targets: str) -> list[Stretch]:
        return self._clipped(
            (spell.start - BEFORE_SEC, spell.end + settling(spell))
            for spell in self.ledger.spells
            if spell.target in targets
        )

    def _made(self, target: str, kinds: Collection[str]) -> list[Stretch]:
        spells = (spell for spell in self.ledger.spells if spell.target == target and spell.kind in kinds)
        return merged(self._clipped((spell.start, spell.end) for spell in spells))

    def _clipped(self, found: Iterable[Stretch]) -> list[Stretch]:
        return [(start, min(end, self.until)) for start, end in found if start < self.until]

    def _whole(self) -> list[Stretch]:
        return [(self.ledger.began, self.until)]

    def _healers(self) -> range:
        return range(1, self.ledger.healers + 1)

    def _once(self, key: object, work: Callable[[], list[Stretch]]) -> list[Stretch]:
        if key not in self._cache:
            self._cache[key] = work()
        return self._cache[key]


def settling(spell: Spell) -> float:
    """How long after its end a fault may still be felt, in seconds."""
    started = spell.target.startswith(("healer:", "agent:")) and spell.kind in ("stop", "kill")
    return START_SEC if started else SETTLE_SEC
