"""Does what the schedule says to a fleet, and writes down what was really done."""

import contextlib
import random
import time
from collections.abc import Callable

import redis

from soak.company import publish
from soak.fleet import SoakFleet
from soak.ledger import Spell
from soak.schedule import BUSES, RHYTHMS, Act
from support.rig import HOST, Process, free_port

JUNK = [b"", b"null", b"\x00\xff" * 40, b"{" * 300, b'{"svc":"nobody","i":1,"ts":1}', b"9" * 5000]
FLOOD = "for i = 1, 4000 do redis.call('PUBLISH', ARGV[1], string.rep('x', 4000)) end"
PUBSUB_LIMIT = "pubsub 33554432 8388608 60"
BEGINS_WITHIN_SEC = 10.0  # a healer that was started hears everyone by then

End = Callable[[], None]


class Breaker:
    """One fault at a time on each target; `do` returns what ends it, or None when it is over already."""

    def __init__(self, fleet: SoakFleet, chance: random.Random) -> None:
        self.fleet, self.ledger, self.chance = fleet, fleet.ledger, chance
        self.done: dict[str, int] = {}
        self.broken: set[str] = set()

    def do(self, act: Act) -> End | None:
        """Begins it. One that can't be done now, since its target is broken already, is left out."""
        found = getattr(self, f"_{act.lane}")(act)
        if found is not False:
            name = f"{act.lane} {act.kind}"
            self.done[name] = self.done.get(name, 0) + 1
        return found or None

    def may_seed(self) -> bool:
        return not any(f"bus:{bus}" in self.broken for bus in BUSES)

    # -- lanes

    def _healer(self, act: Act) -> End | None:
        which = range(1, self.ledger.healers + 1) if act.target == "all" else [int(act.target)]
        return self._all(
            [self._end_process(act.kind, f"healer:{n}", self.fleet[f"healer-{n}"]) for n in which]
        )

    def _agent(self, act: Act) -> End | None:
        if act.target not in self.fleet.agents:
            return None
        return self._end_process(act.kind, f"agent:{act.target}", self.fleet[act.target])

    def _bus(self, act: Act) -> End | None:
        buses = BUSES if act.target == "all" else [act.target]
        return self._all([self._lose(act.kind, bus) for bus in buses])

    def _wire(self, act: Act) -> End | None:
        target = f"wire:{act.target}"
        healer, _, bus = act.target.partition(":")
        wire = self.fleet.wires[int(healer), bus]
        spell = self._begin(act.kind, target)
        only = act.more.get("only", "").encode()
        match act.kind:
            case "cut":
                wire.cut()
            case "swallow":
                wire.swallow(only, act.more["direction"])
            case "mute":
                wire.mute(only, act.more["direction"])
            case "delay":
                wire.delay(act.more["delay_sec"])
            case "refuse":
                wire.refuse()
        if act.kind == "cut":
            self._over(spell)
            return None
        return lambda: (wire.heal(), self._over(spell))

    def _small(self, act: Act) -> End | None:
        draw = random.Random(act.more["draw"])
        bus = act.target
        server = self.fleet.server(bus)
        mine = sorted(svc for svc, one in self.fleet.company.cast.items() if one.bus == bus)
        if f"bus:{bus}" in self.broken:
            return None
        if act.kind == "malformed":
            publish(server.url, f"{draw.choice(mine)}:heartbeat", [draw.choice(JUNK) for _ in range(2000)])
        elif act.kind == "replay":
            self._replay(bus, draw)
        else:
            spells = [self._begin(act.kind, f"wire:{n}:{bus}") for n in range(1, self.ledger.healers + 1)]
            with contextlib.suppress(redis.RedisError):
                if act.kind == "client_kill":
                    self._kill_sessions(bus)
                else:
                    server.cmd("CONFIG", "SET", "client-output-buffer-limit", "pubsub 1mb 512kb 1")
                    server.cmd("EVAL", FLOOD, 0, f"{draw.choice(mine)}:heartbeat")
            with contextlib.suppress(redis.RedisError):
                server.cmd("CONFIG", "SET", "client-output-buffer-limit", PUBSUB_LIMIT)
            for spell in spells:
                self._over(spell)
        return None

    def _reseed(self, act: Act) -> End | None:
        for change in act.more["changes"]:
            self._change(change)
        self.fleet.reseed()
        return None

    # -- how each is done

    def _end_process(self, kind: str, target: str, process: Process) -> End | None:
        if target in self.broken:
            return None
        spell = self._begin(kind, target)
        if kind == "freeze":
            process.freeze()
        elif kind == "stop":
            process.stop()
        else:
            process.kill()

        def back() -> None:
            if kind == "freeze":
                process.thaw()
            else:
                self.ledger.of(target.partition(":")[2]).restarts.append(time.time())
                process.start()
            self._over(spell)

        return back

    def _lose(self, kind: str, bus: str) -> End | None:
        server, target = self.fleet.server(bus), f"bus:{bus}"
        if target in self.broken:
            return None
        spell = self._begin(kind, target)
        match kind:
            case "oom":
                server.cmd("CONFIG", "SET", "maxmemory", "1mb")
                back: Callable[[], object] = lambda: server.cmd("CONFIG", "SET", "maxmemory", "0")  # noqa: E731 - one of a row
            case "readonly":
                server.cmd("REPLICAOF", HOST, free_port())
                back = lambda: server.cmd("REPLICAOF", "NO", "ONE")  # noqa: E731 - one of a row
            case "freeze":
                server.freeze()
                back = server.thaw
            case _:
                server.stop() if kind == "stop" else server.kill()
                back = server.start
        return lambda: (back(), self._over(spell))

    def _kill_sessions(self, bus: str) -> None:
        """Ends every connection with more channels than any but a healer has."""
        server = self.fleet.server(bus)
        lines = server.cmd("CLIENT", "LIST", "TYPE", "PUBSUB").splitlines()
        for client in (dict(word.split("=", 1) for word in line.split()) for line in lines):
            if int(client["sub"]) > 3:
                server.cmd("CLIENT", "KILL", "ID", client["id"])

    def _replay(self, bus: str, draw: random.Random) -> None:
        """Old beats of one that is known to be dead: they bring it no life."""
        told = self.fleet.told_down()
        fit = sorted(svc for svc in told & self.fleet.company.silent.keys() if self._cast(svc).bus == bus)
        if fit:
            svc = draw.choice(fit)
            payload = self.fleet.company.old_payload(svc, self._all_healers_since())
            if payload is not None:
                publish(self.fleet.server(bus).url, f"{svc}:heartbeat", [payload] * 5)

    def _all_healers_since(self) -> float:
        """Since when no healer began anew: of the boots that one has heard, the bus knows the last alone."""
        anew = (
            spell.end
            for spell in self.ledger.spells
            if spell.target.startswith("healer:") and spell.kind in ("kill", "stop")
        )
        return max(anew, default=0.0) + BEGINS_WITHIN_SEC

    def _change(self, change: dict[str, object]) -> None:
        draw, watched = random.Random(str(change["draw"])), self.fleet.watched
        rhythm = RHYTHMS[int(str(change["to"]))]
        others = sorted(set(self.fleet.company.cast) - set(watched))
        match change["do"]:
            case "drop" if len(watched) > len(self.fleet.company.cast) // 2:
                del watched[draw.choice(sorted(watched))]
            case "add" if others:
                watched[draw.choice(others)] = rhythm
            case "rhythm":
                watched[draw.choice(sorted(watched))] = rhythm

    def _cast(self, svc: str):
        return self.fleet.company.cast[svc]

    @staticmethod
    def _all(ends: list[End | None]) -> End | None:
        found = [end for end in ends if end is not None]
        return (lambda: [end() for end in found]) if found else None

    def _begin(self, kind: str, target: str) -> Spell:
        self.broken.add(target)
        return self.ledger.broke(kind, target, time.time())

    def _over(self, spell: Spell) -> None:
        spell.end = time.time()
        self.broken.discard(spell.target)
