"""A real `dbus-daemon`, and on it a stand-in for systemd: three calls of its documented D-Bus interface.

The stand-in is no systemd: it runs nothing, and its units are what a test says. It runs in the test's own
event loop.
"""

import asyncio
import contextlib
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dbus_fast import Message, MessageType, RequestNameReply, Variant
from dbus_fast.aio import MessageBus

from support.waiting import until

NAME = "org.freedesktop.systemd1"
CONFIG = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <listen>unix:path={path}</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow send_destination="*"/><allow receive_sender="*"/><allow own="*"/>
  </policy>
  <limit name="max_replies_per_connection">128</limit> <!-- as on the bus of a machine -->
</busconfig>
"""


@contextlib.contextmanager
def run_bus(folder: Path) -> Iterator[str]:
    """Run a bus; yield its address."""
    path, config = folder / "bus", folder / "bus.conf"
    config.write_text(CONFIG.format(path=path))
    process = subprocess.Popen(["dbus-daemon", f"--config-file={config}", "--nofork"])
    try:
        until(lambda: _is_listened_to(path), what="a bus")
        yield f"unix:path={path}"
    finally:
        process.kill()
        process.wait()


def _is_listened_to(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(path)) == 0


@dataclass
class StandInUnit:
    """One unit. `said` replaces properties; `active`, `sub`, `load` and `job` are what a list shows."""

    name: str
    path: str
    active: str = "active"
    sub: str = "running"
    load: str = "loaded"
    job: str = ""
    starts: int = 1
    started: float = field(default_factory=lambda: time.monotonic() - 90)
    restarts: int = 0
    end: tuple[int, int, str] = (0, 0, "success")
    said: dict[str, Variant] = field(default_factory=dict)

    def start_again(self) -> None:
        self.starts, self.started = self.starts + 1, time.monotonic()
        self.active, self.sub, self.job = "active", "running", ""

    @property
    def invocation(self) -> bytes:
        return bytes.fromhex(f"{self.starts:02x}" + self.path[-30:]) if self.starts else b""

    def get(self, interface: str, name: str) -> Variant | None:
        code, status, result = self.end
        properties = {
            ("Unit", "InvocationID"): Variant("ay", self.invocation),
            ("Service", "NRestarts"): Variant("u", self.restarts),
            ("Service", "MainPID"): Variant("u", 1000 + self.starts),
            ("Service", "ExecMainCode"): Variant("i", code),
            ("Service", "ExecMainStatus"): Variant("i", status),
            ("Service", "Result"): Variant("s", result),
            ("Service", "ExecMainStartTimestampMonotonic"): Variant("t", int(1e6 * self.started)),
        }
        return self.said.get(name) or properties.get((interface.removeprefix(f"{NAME}."), name))


class SystemdStandIn:
    """`async with stand_in(address) as systemd:` is a systemd without units.

    `asked` has each call that came, as its member and its arguments, `strange` those that are none of the
    three. `answer` may return what is sent in place of an answer: the name and the text of an error, or False
    for nothing. `on_restart` does what a restart does to a unit.
    """

    def __init__(self, bus: MessageBus) -> None:
        self.bus = bus
        self.units: dict[str, StandInUnit] = {}
        self.asked: list[tuple[str, list[Any]]] = []
        self.strange: list[tuple[str, list[Any]]] = []
        self.answer: Callable[[str, list[Any]], tuple[str, str] | bool | None] = lambda _member, _body: None
        self.on_restart: Callable[[StandInUnit], None] = StandInUnit.start_again

    def add(self, name: str, **more: Any) -> StandInUnit:
        unit = StandInUnit(name, f"/org/freedesktop/systemd1/unit/u{len(self.units) + 1:040x}", **more)
        self.units[name] = unit
        return unit

    def count(self, member: str) -> int:
        return sum(name == member for name, _ in self.asked)

    def handle(self, call: Message) -> Message | bool:
        if call.message_type is not MessageType.METHOD_CALL or call.destination != NAME:
            return False
        self.asked.append((call.member, call.body))
        given = self.answer(call.member, call.body)
        if given is False:
            return True
        if isinstance(given, tuple):
            return Message.new_error(call, *given)
        match call.member, call.body:
            case "ListUnitsByPatterns", [[], [pattern]]:
                before, star, after = pattern.partition("*")
                found = (
                    each
                    for name, each in self.units.items()
                    if (name.startswith(before) and name.endswith(after) if star else name == pattern)
                )
                return Message.new_method_return(call, "a(ssssssouso)", [[_show(each) for each in found]])
            case "Get", [interface, name]:
                unit = next((each for each in self.units.values() if each.path == call.path), None)
                if unit is None:
                    return Message.new_error(call, "org.freedesktop.DBus.Error.UnknownObject", "no such unit")
                value = unit.get(interface, name)
                if value is not None:
                    return Message.new_method_return(call, "v", [value])
            case "TryRestartUnit", [name, "fail"]:
                unit = self.units[name]
                unit.active, unit.sub, unit.job = "deactivating", "stop-sigterm", "restart"
                asyncio.get_running_loop().call_later(0.1, self.on_restart, unit)
                return Message.new_method_return(call, "o", ["/org/freedesktop/systemd1/job/7"])
        self.strange.append((call.member, call.body))
        return Message.new_error(call, "org.freedesktop.DBus.Error.UnknownMethod", "not one of the three")


def _show(unit: StandInUnit) -> list[Any]:
    job = (7, unit.job, "/org/freedesktop/systemd1/job/7") if unit.job else (0, "", "/")
    return [unit.name, "a unit", unit.load, unit.active, unit.sub, "", unit.path, *job]


@contextlib.asynccontextmanager
async def stand_in(address: str) -> AsyncIterator[SystemdStandIn]:
    bus = await MessageBus(bus_address=address).connect()
    try:
        systemd = SystemdStandIn(bus)
        bus.add_message_handler(systemd.handle)
        assert await bus.request_name(NAME) is RequestNameReply.PRIMARY_OWNER
        yield systemd
    finally:
        bus.disconnect()
        with contextlib.suppress(Exception):
            await asyncio.wait_for(bus.wait_for_disconnect(), 2)
