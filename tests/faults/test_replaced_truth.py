"""What one who can write a truth to a bus gets out of it: no command, no secret, no say in where one is sent.

Every agent runs with all secrets there are in its environment. Each kind of channel and each text in each
service's section is tried; both are read off the models, so that a new one is tried as well.
"""

import base64
import binascii
import contextlib
import re
import socket
import threading
import time
from collections.abc import Iterator
from importlib import import_module
from operator import gt
from typing import Any, get_args

import orjson
import pytest
from pydantic import BaseModel

from marketswarm.agent.service_config import find_model, find_services_with_model
from marketswarm.channels import KINDS
from marketswarm.truth.env_policy import OPTION_VARIABLES
from support.fixtures import opened
from support.rig import HOST
from support.rig.receiver import Receiver
from support.scenes.agent import Scene, seed
from support.waiting import until

pytestmark = pytest.mark.live

MARK = "hunter2"
CHANNEL_NAMES = sorted(
    {name for names in OPTION_VARIABLES.values() for name in names.values()} - {"SMTP_PORT", "SMTP_TLS"}
)
OTHERS = ("POLYGON_API_KEY", "VEXY_LLM_KEY", "NOTIFY_OWN", "NOTIFY_OWN_HOST", "PAID_FEED_URL")
LOG = "healer:alerts:log"
AGENTS = {
    "notifier": "notifier",
    **{name: f"services.{name}" for name in ("rss_agg", "massive", "vexy_ai", "mesh")},
}


def secret(name: str) -> str:
    """A value that the variable takes: of an address, one where nobody listens."""
    if name.endswith(("_URL", "_URLS")):
        return f"http://{HOST}:1/{MARK}-{name}"
    if name.endswith("_HOST"):
        return HOST  # a host is no secret: it is shown
    if name == "NOTIFY_EXEC":
        return f"true --token {MARK}"
    if name in ("SMTP_FROM", "SMTP_TO"):
        return f"{MARK}-{name}@example.org"
    return f"{MARK}-{name}"


SECRETS = {name: secret(name) for name in (*CHANNEL_NAMES, *OTHERS)}


class Trap:
    """Takes whatever comes: as a web server, or as a mail server for who waits to be greeted."""

    def __init__(self) -> None:
        self.heard: list[bytes] = []
        self._listener = socket.create_server((HOST, 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}/take"

    def close(self) -> None:
        self._listener.close()

    def said(self) -> str:
        """All of it, what is base64 in it made readable."""
        text = b"\n".join(self.heard).decode("utf-8", "replace")
        plain = []
        for word in re.findall(r"[A-Za-z0-9+/]{8,}=*", text):
            with contextlib.suppress(binascii.Error, ValueError):
                plain.append(base64.b64decode(word + "==").decode("utf-8", "replace"))
        return "\n".join([text, *plain])

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                threading.Thread(target=self._take, args=(connection,), daemon=True).start()

    def _take(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:
            connection.settimeout(0.3)
            try:
                first = connection.recv(65_536)
            except TimeoutError:
                connection.sendall(b"220 trap ESMTP\r\n")
                first = b""
            connection.settimeout(10)
            more = first
            while more or not first:
                more = more or connection.recv(65_536)
                if not more:
                    return
                self.heard.append(more)
                connection.sendall(self._answer(more))
                first = first or more
                more = connection.recv(65_536)

    @staticmethod
    def _answer(said: bytes) -> bytes:
        words = {
            b"EHLO": b"250-trap\r\n250 AUTH PLAIN LOGIN\r\n",
            b"AUTH": b"235 in\r\n",
            b"DATA": b"354 go\r\n",
        }
        if b" HTTP/1" in said:
            return b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
        return words.get(said[:4].upper(), b"250 ok\r\n")


trap = opened(lambda: contextlib.closing(Trap()))


def options_of(kind: str) -> set[str]:
    return set(import_module(f"marketswarm.channels.{kind}").Options.model_fields)


def bad_channels(trap: Trap, touch: str) -> dict[str, dict[str, Any]]:
    """Of each kind, told to go to the trap: one with what is meant for it, and one with each other secret."""
    there = {
        "url": trap.url,
        "host": HOST,
        "urls": f"json://{HOST}:{trap.port}/",
        "command": touch,
        "port": trap.port,
        "tls": "none",
        "sender": "a@example.org",
        "to": "b@example.org",
        "chat": "1",
        "channel": "C1",
        "user": "me",
    }
    found: dict[str, dict[str, Any]] = {}
    for kind in KINDS:
        options = options_of(kind)
        base = {"type": kind, **{each: there[each] for each in options & there.keys()}}
        own = {option: f"env:{name}" for option, name in OPTION_VARIABLES[kind].items() if name in SECRETS}
        found[f"{kind}-0"] = {
            **base,
            **own,
            **{each: base[each] for each in ("url", "host") if each in base},
        }
        tried = [{**base, option: f"env:{name}"} for option in sorted(options) for name in SECRETS]
        # without what says where a kind sends: an option of another name may not say it either
        elsewhere = {each: value for each, value in own.items() if each not in ("url", "host", "urls")}
        tried.append({"type": kind, **elsewhere, "api": trap.url})
        found |= {f"{kind}-{number}": each for number, each in enumerate(tried, 1)}
    return found


def texts(model: Any, place: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Where a text may stand in a section of that model."""
    for name, field in model.model_fields.items():
        yield from _texts(field.annotation, (*place, name))


def _texts(annotation: Any, place: tuple[str | int, ...]) -> Iterator[tuple[str | int, ...]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield from texts(annotation, place)
        return
    if annotation is str:
        yield place
    origin = getattr(annotation, "__origin__", None)
    inner = {tuple: 0, list: 0, dict: "x"}.get(origin)  # type: ignore[arg-type]
    for each in get_args(annotation):
        yield from _texts(each, place if inner is None else (*place, inner))


def placed(section: Any, place: tuple[str | int, ...], value: str) -> Any:
    """The section with that text there."""
    if not place:
        return value
    step, rest = place[0], place[1:]
    if isinstance(step, int):
        before = list(section) if isinstance(section, list) else []
        return [placed(before[0] if before else {}, rest, value), *before[1:]]
    before = dict(section) if isinstance(section, dict) else {}
    return {**before, step: placed(before.get(step, {}), rest, value)}


def documents(good: dict[str, Any], payloads: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    """Truths in each of which one text of each service is a payload."""
    places = {
        svc: sorted(set(texts(model)), key=str)
        for svc in sorted(find_services_with_model())
        if (model := find_model(svc)) is not None
    }
    assert all(places[svc] for svc in ("notifier", "rss_agg", "massive", "vexy_ai"))
    for payload in payloads:
        for number in range(max(map(len, places.values()))):
            changed = {
                svc: placed(good["services"].get(svc, {}), found[number], payload)
                for svc, found in places.items()
                if number < len(found)
            }
            yield {**good, "services": {**good["services"], **changed}}


def truth(receiver: Receiver, **sections: Any) -> dict[str, Any]:
    beats = {"heartbeat": {"interval_sec": 0.3, "timeout_sec": 30}}
    services: dict[str, Any] = {name: dict(beats) for name in AGENTS}
    channels = {"good": {"type": "webhook", "url": receiver.url}}
    services["notifier"]["settings"] = {"group_wait_sec": 0.1, "rate_limit_sec": 0, "channels": channels}
    for name, section in sections.items():
        services[name] = {**services[name], **section}
    return {"services": services}


def write_miss(scene: Scene, svc: str) -> None:
    now = time.time()
    event = {
        "type": "heartbeat_miss",
        "svc": svc,
        "ts": now,
        "id": f"m.{svc}",
        "late_sec": 1,
        "timeout_sec": 1,
    }
    scene.system.cmd("XADD", LOG, "*", "event", orjson.dumps(event))


scene = opened(lambda tmp_path: Scene(tmp_path))


def started(scene: Scene, document: dict[str, Any], *names: str) -> list[Any]:
    seed(scene.buses, document, 1)
    agents = [scene.module(AGENTS[name], **{**SECRETS, "SLACK_CHANNEL": "C0"}) for name in names]
    for name in names:
        scene.wait_beat(svc=name, rev=1)
    return agents


def decisions(agents: list[Any]) -> list[int]:
    """How often each agent has put a truth in force or refused one."""
    return [sum(len(agent.logs(f"truth.{word}")) for word in ("applied", "unusable")) for agent in agents]


def nothing_got_out(trap: Trap, agents: list[Any], marker: Any) -> None:
    assert MARK not in trap.said()
    assert not marker.exists()
    for agent in agents:
        assert MARK not in agent.text()
        assert agent.running


def test_row_44_no_channel_of_a_truth_runs_a_command_or_sends_a_secret_to_where_it_says(
    scene, receiver, trap, tmp_path
):
    marker = tmp_path / "ran"
    agents = started(scene, truth(receiver), "notifier")
    until(lambda: scene.system.cmd("GET", "notifier:lease"), what="a lease")
    bad = bad_channels(trap, f"touch {marker}")
    good = truth(receiver)["services"]["notifier"]["settings"]
    settings = {**good, "channels": {**bad, **good["channels"]}}
    seed(scene.buses, truth(receiver, notifier={"settings": settings}), 2)

    def refused() -> dict[str, str]:
        return {line["channel"]: line["why"] for line in agents[0].logs("channel.not_opened")}

    until(
        lambda: len(refused()) > len(bad) // 2 and {"ntfy-0", "exec-1"} <= refused().keys(),
        what="all refused",
    )
    assert "may not be sent to" in refused()["ntfy-0"]
    assert "NOTIFY_EXEC" in refused()["exec-1"]
    write_miss(scene, "alpha")
    receiver.wait("heartbeat_miss", "alpha", 20)
    until(lambda: any(b"alpha" in each for each in trap.heard), what="what holds no secret goes there")
    nothing_got_out(trap, agents, marker)


def test_row_44_no_text_in_any_section_runs_a_command_or_sends_a_secret_to_where_it_says(
    scene, receiver, trap, tmp_path
):
    marker = tmp_path / "ran"
    agents = started(scene, truth(receiver), *AGENTS)
    place = f"127.0.0.1:{trap.port}"
    polygon = {"name": "api", "kind": "polygon", "url": f"http://{place}", "every_sec": 0.1}
    market = {"symbols": ["AAPL"], "rest_url": f"http://{place}", "ws_url": f"ws://{place}/stocks"}
    feeds = [{"url": f"env:{name}", "name": name, "every_sec": 0.1} for name in SECRETS]
    good = truth(
        receiver,
        massive={"settings": {"market": market, "targets": [polygon]}},
        rss_agg={"endpoints": feeds, "settings": {"allow_inside": [HOST], "poll_sec": 0.1}},
    )
    seed(scene.buses, good, 2)
    for name in AGENTS:
        scene.wait_beat(svc=name, rev=2)
    scene.wait_beat(svc="massive", rev=2, status="degraded")
    payloads = (f"http://{place}/x", f"ws://{place}/x", place, "env:POLYGON_API_KEY", f"touch {marker}")
    revision = 2
    for revision, document in enumerate(documents(good, payloads), 3):
        known = decisions(agents)
        seed(scene.buses, document, revision)
        until(lambda known=known: all(map(gt, decisions(agents), known)), what="each agent to read it")
    seed(scene.buses, good, revision + 1)
    for name in AGENTS:
        scene.wait_beat(svc=name, rev=revision + 1)
    nothing_got_out(trap, agents, marker)


def test_row_44_an_address_that_a_truth_names_anew_is_told_to_those_who_had_the_messages(
    scene, receiver, trap
):
    agents = started(scene, truth(receiver), "notifier")
    until(lambda: scene.system.cmd("GET", "notifier:lease"), what="a lease")
    until(
        lambda: b"addresses" in str(scene.system.cmd("HGETALL", "notifier:state")).encode(),
        what="it is noted",
    )
    evil = {"settings": {"channels": {"mine": {"type": "webhook", "url": trap.url}}}}
    seed(scene.buses, truth(receiver, notifier=evil), 2)
    told = ["new address: mine", f"at {HOST}:{trap.port}"]
    until(lambda: any(all(each in str(one.body) for each in told) for one in receiver.seen), what="the news")
    [line] = agents[0].logs("channel.address_new")
    assert line["addresses"] == {"mine": f"webhook at {HOST}:{trap.port}"}
    seed(scene.buses, truth(receiver), 3)
    until(lambda: len(agents[0].logs("channel.address_new")) == 2, what="the way back is a change, too")
