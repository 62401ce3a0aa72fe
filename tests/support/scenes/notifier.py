"""The scene of the notifier's faults: two buses, receivers, a notifier, and events that a hand writes."""

import itertools
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import orjson

from marketswarm.keys import NOTIFIER_SILENCES
from marketswarm.operator.silences import Silence
from support.rig import Proc
from support.rig.receiver import Receiver
from support.scenes.faults import BUSES, Scene, service
from support.waiting import PATIENT_SEC, until

LOG = "healer:alerts:log"
LEASE_SEC = 0.6
ENV = {"NOTIFIER_LEASE_SEC": str(LEASE_SEC)}
START_SEC = PATIENT_SEC
"""For a notifier to start, with others at work on the machine."""

_serial = itertools.count(1)


def hooks(**receivers: Receiver) -> dict[str, dict[str, str]]:
    """Channels of the truth, a webhook each."""
    return {name: {"type": "webhook", "url": each.url} for name, each in receivers.items()}


class Notified(Scene):
    """`with Notified(tmp_path, hooks(one=receiver)) as scene:`: a notifier that leads, and no healer.

    `settings` are those of the notifier's section; `services` are in the truth and do not beat.
    """

    def __init__(
        self,
        folder: Path,
        channels: Mapping[str, Mapping[str, Any]],
        agents: tuple[str, ...] = ("notifier",),
        *,
        services: Mapping[str, Mapping[str, Any]] | None = None,
        env: Mapping[str, str] | None = None,
        **settings: Any,
    ) -> None:
        services = services or {}
        # the notifier's own outages are not what these tests are about
        section = {
            **service(timeout_sec=60),
            "settings": {"group_wait_sec": 0.2, "channels": dict(channels), **settings},
        }
        names = {**services, "notifier": section}
        idle = () if "healer" in agents else tuple(services)
        super().__init__(folder, names, agents, idle=idle, env={**ENV, **(env or {})})

    def __enter__(self) -> Self:
        super().__enter__()
        try:
            if "notifier" in self.first:
                self.ready()
        except BaseException:
            self.resources.close()
            raise
        return self

    def with_settings(self, **settings: Any) -> dict[str, Any]:
        """The truth with some of the notifier's settings changed."""
        section = self.truth["services"]["notifier"]
        changed = {**section, "settings": {**section["settings"], **settings}}
        return {**self.truth, "services": {**self.truth["services"], "notifier": changed}}

    def judge(self) -> None:
        """Where no healer ran, the log is the test's own business."""
        if "healer" in self.agents:
            super().judge()

    # -- the notifier

    @property
    def notifier(self) -> Proc:
        return self["notifier"]

    def ready(self, *buses: str) -> None:
        """Waits until a notifier reads every bus."""
        for bus in buses or BUSES:
            until(
                lambda bus=bus: self.server(bus).cmd("EXISTS", "notifier:asks") and self.groups(bus),
                START_SEC,
                f"a group on {bus}: {self.agents.get('notifier')}",
            )
        until(lambda: self.server(BUSES[0]).cmd("GET", "notifier:lease"), START_SEC, "a lease")

    def groups(self, bus: str) -> list[Any]:
        if not self.server(bus).cmd("EXISTS", LOG):
            return []
        return list(self.server(bus).cmd("XINFO", "GROUPS", LOG))

    def again(self) -> None:
        """Kills the notifier, and starts it."""
        self.notifier.kill()
        self.notifier.start()

    def pending(self, bus: str = BUSES[0]) -> int:
        return int(self.server(bus).cmd("XPENDING", LOG, "notifier")["pending"])

    def settled(self, within: float = PATIENT_SEC) -> None:
        """Waits until every entry of every log was read and is acknowledged."""

        def done(bus: str) -> bool:
            [group] = self.groups(bus)
            newest = self.server(bus).cmd("XREVRANGE", LOG, "+", "-", "COUNT", 1)
            end = newest[0][0] if newest else group["last-delivered-id"]
            return not group["pending"] and _order(group["last-delivered-id"]) >= _order(end)

        for bus in BUSES:
            if self.server(bus).running:
                until(lambda bus=bus: done(bus), within, f"nothing pending on {bus}: {self.groups(bus)}")

    def state(self, bus: str = BUSES[0]) -> dict[str, str]:
        return dict(self.server(bus).cmd("HGETALL", "notifier:state"))

    def beat_detail(self) -> str:
        found = orjson.loads(self.system.cmd("GET", "beat:notifier") or b"{}")
        return f"{found.get('status')}: {found.get('detail', '')}"

    def dead(self, bus: str = BUSES[0]) -> list[dict[str, str]]:
        """What lies in `notifier:dead`; the message as an object."""
        found = []
        for _, fields in self.server(bus).cmd("XRANGE", "notifier:dead", "-", "+"):
            one = fields if isinstance(fields, dict) else dict(zip(fields[::2], fields[1::2], strict=True))
            found.append({**one, "message": orjson.loads(one["message"])})
        return found

    def told(self, ident: str, bus: str = BUSES[0]) -> dict[str, Any] | None:
        raw = self.server(bus).cmd("GET", f"notifier:told:{ident}")
        return None if raw is None else dict(orjson.loads(raw))

    # -- what happens

    def write(self, kind: str, svc: str, *buses: str, ago: float = 0.0, **more: Any) -> str:
        """Puts an event on the log, as the healer does; its id. By default on the first bus alone."""
        ts = round(time.time() - ago, 3)
        ident = f"{kind}.{svc}.{round(ts * 1000)}.{next(_serial)}"
        event = {"type": kind, "svc": svc, "ts": ts, "id": ident, "by": "healer", **more}
        for bus in buses or BUSES[:1]:
            self.server(bus).cmd("XADD", LOG, "*", "event", orjson.dumps(event))
        return ident

    def silence(self, *services: str, sec: float = 3600.0) -> Silence:
        """Puts a silence on every bus, and waits until the notifier has read it."""
        now = time.time()
        named: dict[str, Any] = {"author": "ops", "reason": "work", "services": services}
        found = Silence(id=f"s{next(_serial)}", starts_at=now, ends_at=now + sec, changed_at=now, **named)
        self._put(found)
        return found

    def end(self, silence: Silence) -> None:
        """Ends a silence now."""
        self._put(silence.end_at(time.time()))

    def _put(self, silence: Silence) -> None:
        for bus in BUSES:
            self.server(bus).cmd("HSET", NOTIFIER_SILENCES, silence.id, silence.encode())
        self.wait_beats("notifier", 6)  # it reads them once a second

    def ask(self, do: str, what: str, *buses: str) -> list[dict[str, Any]]:
        """Asks the notifier; its answers, waiting for the last."""
        ident = f"ask{next(_serial)}"
        ask = {"id": ident, "do": do, "what": what, "by": "ops", "ts": time.time()}
        for bus in buses or BUSES:
            self.server(bus).cmd("XADD", "notifier:asks", "*", "ask", orjson.dumps(ask))
        first = (buses or BUSES)[0]

        def answers() -> list[dict[str, Any]]:
            return [
                orjson.loads(raw)
                for raw in self.server(first).cmd("LRANGE", f"notifier:answers:{ident}", 0, -1)
            ]

        until(lambda: any(each["done"] for each in answers()), what=lambda: f"an answer: {answers()}")
        return answers()


def _order(ident: str) -> tuple[int, int]:
    ms, _, seq = ident.partition("-")
    return int(ms), int(seq or 0)
