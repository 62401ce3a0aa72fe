"""Count the files that a beat, a miss and its message pass through: `.venv/bin/python tools/paths.py`.

A real monitor runs over a bus in memory. The bytes of a PUBLISH go through a session, the listener and the
detector; then the service falls silent, and its miss is followed from the timer to the log of alerts. A real
notifier then reads it there, and sends it to an HTTP receiver. A file counts if one of its functions is
given, or returns, what is followed: the payload and the beat; the service, the suspect, the verdict and the
event; the incident and the message. A file is re-entered if a call goes from it through another file back
into it.

tests/docs/test_paths.py holds the counts to docs/development.md.
"""

import asyncio
import dataclasses
import logging
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import CodeType, FrameType, GeneratorType, SimpleNamespace
from typing import Any, Final
from unittest.mock import patch

import orjson
import structlog

from marketswarm.agent import agent
from marketswarm.beat import Beat, encode_beat
from marketswarm.bus import Bus
from marketswarm.bus.consumer import Consumer, DeliveredEntry
from marketswarm.bus.listener import Listener, read_clocks
from marketswarm.bus.parser import BatchParser
from marketswarm.bus.scripts import Script
from marketswarm.bus.session import SubscriberConnection
from marketswarm.channels import Message
from marketswarm.detector import LastBeat, Verdict, WatchedService, restore_services
from marketswarm.detector.verdict import Suspect, Tick
from marketswarm.event import Event, Kind, encode_event
from marketswarm.keys import ALERT_LOG, TRUTH_DOC, last_beat_key
from marketswarm.monitor import Monitor, VerdictEncoder
from marketswarm.monitor.encoder import EncodedVerdict
from marketswarm.monitor.publisher import PUBLISH_SCRIPT
from marketswarm.monitor.verdict_queue import PendingVerdict
from marketswarm.monitor.witness import StoredBeats
from marketswarm.settings.programs import NotifierSettings
from marketswarm.testing import MemoryBus, MemoryBuses
from marketswarm.truth import SYSTEM, Watch
from notifier.app import notifier_heartbeat, run_notifier
from notifier.inbox import ReceivedEvent
from notifier.router.incident import Incident, Notice

ROOT: Final = Path(__file__).parent.parent
SVC: Final = "a"
TIMEOUT_SEC: Final = 0.6
WITHIN_SEC: Final = 10.0
"""How long to wait until the beat is heard, and until the miss is on the log."""
PROCESS_LOG: Final = ("marketswarm/log.py", "marketswarm/text.py", "marketswarm/monitor/verdict_log.py")
"""Files that write log lines: they are not counted, and are called only where logging is set up."""
PARTS: Final = ("marketswarm", "healer", "sentinel", "notifier")
BEAT: Final = (Beat, LastBeat)
MISS: Final = (WatchedService, Suspect, Verdict, Event, EncodedVerdict, PendingVerdict, LastBeat)
MESSAGE: Final = (DeliveredEntry, Event, ReceivedEvent, Incident, Notice, Message)


class Trace:
    """The files that something passes through, in the order of their first call, and the re-entries.

    Args:
        text: bytes that contain this are followed as well.
        follows_messages: whether generators are followed too, as those of messages.
    """

    def __init__(self, kinds: tuple[type, ...], text: bytes, *, follows_messages: bool = False) -> None:
        self._kinds, self._text, self._follows_messages = kinds, text, follows_messages
        self.files: dict[str, str] = {}
        """The function that was called first, by file."""
        self.reentries: dict[str, str] = {}
        """The files between, by the file that was entered again."""
        self._names: dict[CodeType, str | None] = {}

    def start(self) -> None:
        """Trace every call until `stop_tracing`."""
        sys.setprofile(self._note)

    def _note(self, frame: FrameType, event: str, arg: Any) -> None:
        name = self._name(frame.f_code)
        if name is None:
            return
        if event == "call":
            code = frame.f_code
            count = code.co_argcount + code.co_kwonlyargcount
            values: Iterable[Any] = [frame.f_locals.get(each) for each in code.co_varnames[:count]]
        elif event == "return":
            values = [arg]
        else:
            return
        if any(self._is_followed(value) for value in values):
            self.files.setdefault(name, frame.f_code.co_qualname)
            if event == "call":
                self._note_reentry(name, frame)

    def _note_reentry(self, name: str, frame: FrameType) -> None:
        """Note a re-entry if the callers of a frame lead from its file through other files back into it."""
        between: list[str] = []
        caller = frame.f_back
        while caller is not None:
            found = self._name(caller.f_code)
            if found == name and between:
                self.reentries.setdefault(name, " < ".join(dict.fromkeys(between)))
                return
            if found is not None and found != name:
                between.append(found)
            caller = caller.f_back

    def _name(self, code: CodeType) -> str | None:
        """Return the path of a code object's file in the product; None for a file that is not counted."""
        if code not in self._names:
            path = Path(code.co_filename)
            inside = path.is_relative_to(ROOT) and ".venv" not in path.parts
            name = path.relative_to(ROOT).as_posix() if inside else None
            ours = name is not None and name.split("/")[0] in (
                "marketswarm",
                "healer",
                "sentinel",
                "notifier",
            )
            is_part = ours and "testing" not in path.parts and name not in PROCESS_LOG
            self._names[code] = name if is_part else None
        return self._names[code]

    def _is_followed(self, value: Any, depth: int = 3) -> bool:
        if isinstance(value, self._kinds):
            return True
        if isinstance(value, bytes):
            return self._text in value
        if isinstance(value, GeneratorType):  # of messages, one of which is the beat
            return self._follows_messages
        if depth == 0:
            return False
        return any(self._is_followed(each, depth - 1) for each in _iterate_parts(value))


def _iterate_parts(value: Any) -> Iterator[Any]:
    """Yield the elements of a collection, or the fields of a Tick or StoredBeats."""
    if isinstance(value, list | tuple | set | frozenset):
        yield from value
    elif isinstance(value, dict):
        yield from value.values()
        yield from value.keys()
    elif isinstance(value, Tick | StoredBeats) and dataclasses.is_dataclass(value):
        yield from (getattr(value, field.name) for field in dataclasses.fields(value))


def stop_tracing() -> None:
    sys.setprofile(None)


class Owner:
    """The part of an agent that a monitor needs."""

    name, boot = "healer", "b"

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    def bus(self, _name: str) -> Bus:
        return self._bus

    def progress(self) -> None:
        """Do nothing."""

    def set_degraded(self, detail: str | None) -> None:
        """Do nothing."""


class ObservedBus(MemoryBus):
    """A bus in memory that ends the tracing once something is on the log."""

    is_logged = False

    async def script(self, script: Script, *args: Any, **kwargs: Any) -> Any:
        """End the tracing if the script published something."""
        found = await super().script(script, *args, **kwargs)
        if script is PUBLISH_SCRIPT:
            stop_tracing()
            self.is_logged = True
        return found


class Scene:
    """A monitor of one service, with canaries that come back at once."""

    def __init__(self) -> None:
        self.bus = ObservedBus()
        encoder = VerdictEncoder(family="heartbeat", by="healer", channel="healer:alerts")
        self.monitor = Monitor(Owner(self.bus), encoder, home=self.bus.name)
        watch = Watch(SVC, self.bus.name, f"{SVC}:heartbeat", TIMEOUT_SEC / 3, TIMEOUT_SEC)
        self.monitor.set_roster([watch], {self.bus.name: 10.0}, [self.bus.name])
        detector = self.monitor.detector
        list(restore_services(detector, {}, {}, read_clocks()))
        detector.buses[self.bus.name].clock.note_session_opened()
        self._canaries = 0
        self.listener = Listener(self.bus, self.monitor.feed, listener="healer", boot="b")

    def prove(self) -> None:
        """Send a canary and hear it."""
        self._canaries += 1
        feed, name = self.monitor.feed, self.bus.name
        feed.on_canary_sent(name, self._canaries, read_clocks(), 0.0)
        feed.on_canary_accepted(name, read_clocks())
        feed.on_canary_received(name, self._canaries, read_clocks(), 0.0)

    async def hear(self, payload: bytes) -> None:
        """Pass the bytes that a server sends for one PUBLISH through a session and the listener.

        Raises RuntimeError if the session did not read them within WITHIN_SEC.
        """
        channel = f"{SVC}:heartbeat".encode()
        stream = asyncio.StreamReader()
        stream.feed_data(
            b"*3\r\n$7\r\nmessage\r\n"
            + b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in (channel, payload))
        )
        parser = BatchParser(65536)
        parser.on_connect(SimpleNamespace(_reader=stream, encoder=SimpleNamespace(decode_responses=False)))
        session = SubscriberConnection(self.bus, SimpleNamespace(_parser=parser))
        try:
            async with asyncio.timeout(WITHIN_SEC):
                messages = await session.read_batch()
        except TimeoutError:
            raise RuntimeError(f"the session did not read a message within {WITHIN_SEC:g} s") from None
        self.listener.handle_messages(messages)

    async def wait_until_logged(self, what: str) -> None:
        """Send canaries and hear them until the next event is on the log.

        Raises RuntimeError if none was within WITHIN_SEC.
        """
        self.bus.is_logged = False
        deadline = time.monotonic() + WITHIN_SEC
        while not self.bus.is_logged:
            if time.monotonic() > deadline:
                raise RuntimeError(f"the log did not say within {WITHIN_SEC:g} s that {what}")
            self.prove()
            await asyncio.sleep(0.02)


async def follow_beat() -> Trace:
    """Follow a beat from the socket to the service's state."""
    scene = Scene()
    scene.prove()
    await scene.hear(encode_beat(Beat(SVC, 1, time.time(), boot="x")))
    payload = encode_beat(Beat(SVC, 2, time.time(), boot="x"))
    trace = Trace(BEAT, payload, follows_messages=True)
    trace.start()
    await scene.hear(payload)
    stop_tracing()
    await scene.bus.aclose()
    return trace


async def follow_miss() -> Trace:
    """Follow a miss from the timer to the log.

    Raises RuntimeError if no bus took the miss within WITHIN_SEC.
    """
    scene, trace = Scene(), Trace(MISS, b'"svc":"a"')
    monitor, payload = scene.monitor, encode_beat(Beat(SVC, 1, time.time(), boot="x"))
    publisher = monitor.links[scene.bus.name].publisher
    assert publisher is not None
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(monitor.publish_queued(publisher))]
        scene.prove()
        await scene.hear(payload)
        # an earlier beat, since the last one that was heard is known by its bytes and not parsed; without an
        # end, since on a busy machine the miss comes later than a beat's key lives
        await scene.bus.client.set(last_beat_key(SVC), encode_beat(Beat(SVC, 0, time.time(), boot="x")))
        tasks.append(group.create_task(monitor.evaluator.run(group)))
        await scene.wait_until_logged(f"{SVC} is up")
        trace.start()
        await scene.wait_until_logged(f"{SVC} was missed")
        for task in tasks:
            task.cancel()
    await scene.bus.aclose()
    return trace


async def follow_message() -> Trace:
    """Follow a miss from the log to the request that the receiver of a webhook gets.

    Raises RuntimeError if there was none within WITHIN_SEC.
    """
    event = Event(Kind.HEARTBEAT_MISS, SVC, time.time(), "e", "healer", timeout_sec=TIMEOUT_SEC)
    raw, received, given = encode_event(event), asyncio.Event(), asyncio.Event()
    trace, buses = Trace(MESSAGE, raw), MemoryBuses()

    async def read_new(_consumer: Consumer, *_args: object, **_more: object) -> list[DeliveredEntry]:
        """Stand in for a read that waits, which a bus in memory does not have."""
        await given.wait()
        given.clear()
        trace.start()
        return [DeliveredEntry(ALERT_LOG, b"1-0", {b"event": raw})]

    async def receive(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        stop_tracing()
        received.set()
        writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(receive, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    settings = NotifierSettings(webhook_url=f"http://127.0.0.1:{port}/", watchdog_sec=1000)
    beats = {"interval_sec": TIMEOUT_SEC / 3, "timeout_sec": TIMEOUT_SEC}
    truth = {"services": {SVC: {"heartbeat": beats}, "notifier": {}}}
    await buses(SYSTEM).client.set(TRUTH_DOC, orjson.dumps(truth))
    with patch.object(Consumer, "read_new", read_new):
        async with agent("notifier", settings, heartbeat=notifier_heartbeat, open_bus=buses) as me:
            running = me.task(run_notifier(me), name="notifier")
            given.set()
            try:
                async with asyncio.timeout(WITHIN_SEC):
                    await received.wait()
            except TimeoutError:
                raise RuntimeError(f"no request came within {WITHIN_SEC:g} s") from None
            finally:
                stop_tracing()
                running.cancel()
                server.close()
    return trace


async def main() -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    paths = ("a beat", follow_beat), ("a miss", follow_miss), ("a message", follow_message)
    for title, follow in paths:
        path = await follow()
        print(f"{title}: {len(path.files)} files")
        for file, function in path.files.items():
            again = f"   entered again through {path.reentries[file]}" if file in path.reentries else ""
            print(f"  {file:40} {function}{again}")


if __name__ == "__main__":
    asyncio.run(main())
