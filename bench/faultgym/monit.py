"""monit, with what its manual shows: a process by its pid file, and a program that asks for the beat's age.

monit looks each second, starts what does not run, and restarts what was silent for longer than its timeout,
or takes too much memory or processor time. It gives a service up after five restarts within 60 looks.
"""

import re
import subprocess
import time
from collections.abc import Collection, Mapping
from datetime import datetime
from pathlib import Path
from shlex import quote
from typing import Final

from bench.faultgym.case import HealerAction
from bench.faultgym.manager import POLL_SEC, WITHIN_SEC, Needs, ProcessManager, find_program
from marketswarm.keys import last_beat_key

CYCLE_SEC: Final = 1
STOP_WITHIN_SEC: Final = 3
START_WITHIN_SEC: Final = 5
SILENT_CYCLES: Final = 2
RESTARTS: Final = 5
WITHIN_CYCLES: Final = 60
"""Wide enough for so many restarts with that grace after each; with fewer it would restart for ever."""
_GIVEN_UP: Final = re.compile(
    r"^\[(\S+)\] \w+\s*: '(\w+?)(?:_beat)?' service restarted \d+ times within \d+ cycle.*unmonitor",
    re.MULTILINE,
)


class Monit(ProcessManager):
    """monit in the foreground, with start and stop programs as a distribution's init scripts have them."""

    name = "monit"
    patience_sec = 120.0
    programs = ("monit", "redis-cli", "start-stop-daemon")
    install = "apt-get install monit redis-tools"
    sees = (
        "monit sees that a process is gone (by its pid file), the age of its beat (by a program), memory and "
        "processor time; it restarts, and gives up after five restarts within 60 looks, about which it would "
        "write a mail."
    )

    _by_hand: list[tuple[float, float, str]]
    """From when until when an operator stopped a service."""

    def build_command(self) -> list[str]:
        self._by_hand = []
        daemon = find_program("start-stop-daemon") or ""
        self.write_script(self.folder / "start.sh", build_start_script(self.folder, daemon))
        self.write_script(self.folder / "stop.sh", build_stop_script(self.folder, daemon))
        self.write_script(self.folder / "beat.sh", build_beat_script(self.folder, self.needs))
        config = self.folder / "monitrc"
        self.write_script(config, build_monitrc(self.folder, self.names, self.needs.memory_mb))
        return [self._monit, "-I", "-c", str(config)]

    @property
    def _monit(self) -> str:
        return find_program("monit") or "monit"

    def find_pid(self, svc: str) -> int | None:
        try:
            return int((self.folder / f"{svc}.pid").read_text())
        except (OSError, ValueError):
            return None

    def stop(self, svc: str) -> None:
        began = time.time()
        self._ask("monitor", svc)  # it does not stop what it gave up
        self._ask("stop", svc)
        self.wait_for_processes([svc], is_running=False)
        self._by_hand.append((began, time.time(), svc))

    def start(self, svc: str) -> None:
        self._ask("start", svc)
        self._ask("monitor", f"{svc}_beat")  # which the stop switched off, and the start alone leaves so
        self.wait_for_processes([svc], is_running=True)

    def _ask(self, action: str, name: str) -> None:
        """Ask monit to do something about a check; again while it does something else with it."""
        until = time.monotonic() + WITHIN_SEC
        command = [self._monit, "-c", str(self.folder / "monitrc"), action, name]
        while (done := subprocess.run(command, check=False, capture_output=True, text=True)).returncode:
            if time.monotonic() > until:
                raise AssertionError(f"monit did not {action} {name}: {done.stderr.strip()}")
            time.sleep(POLL_SEC)

    def read_actions(self) -> list[HealerAction]:
        try:
            text = (self.folder / "stops").read_text()
        except OSError:
            return []
        return find_stops(text, self._by_hand)

    def read_given_up(self) -> list[tuple[float, str]]:
        try:
            return find_given_up((self.folder / "monit.log").read_text("utf-8", "replace"))
        except OSError:
            return []


def find_stops(text: str, by_hand: Collection[tuple[float, float, str]]) -> list[HealerAction]:
    """Return the restarts in the lines `TIME SERVICE` of the stop program, without those of an operator."""
    found = []
    for line in text.splitlines():
        at, _, svc = line.partition(" ")
        ts = float(at)
        if not any(begin <= ts <= end and svc == name for begin, end, name in by_hand):
            found.append(HealerAction(ts, svc, "restart"))
    return found


def find_given_up(log: str) -> list[tuple[float, str]]:
    """Return from monit's log when it gave up a service; its times are whole seconds, so the end of them."""
    return [
        (datetime.strptime(at, "%Y-%m-%dT%H:%M:%S%z").timestamp() + 1, svc)
        for at, svc in _GIVEN_UP.findall(log)
    ]


def build_monitrc(folder: Path, names: Collection[str], memory_mb: Mapping[str, float]) -> str:
    head = f"""\
set daemon {CYCLE_SEC}
set logfile {folder}/monit.log
set pidfile {folder}/monit.pid
set idfile {folder}/monit.id
set statefile {folder}/monit.state
set httpd unixsocket {folder}/monit.sock permission 0600 allow gym:gym
"""
    return head + "".join(build_checks(folder, svc, memory_mb.get(svc)) for svc in names)


def build_checks(folder: Path, svc: str, memory_mb: float | None) -> str:
    """Return the checks of a service: by its process, and by its beat.

    A restart that `monit restart` does is not counted, so the second check has the programs as well.
    """
    programs = (
        f'  start program = "{folder}/start.sh {svc}" with timeout {START_WITHIN_SEC} seconds\n'
        f'  stop program = "{folder}/stop.sh {svc}" with timeout {STOP_WITHIN_SEC + 5} seconds\n'
    )
    limit = f"  if {RESTARTS} restarts within {WITHIN_CYCLES} cycles then unmonitor\n"
    rules = ""
    if memory_mb is not None:
        rules = (
            f"  if totalmem > {memory_mb:.0f} MB for 2 cycles then restart\n"
            "  if cpu > 12% for 4 cycles then restart\n"
        )
    return f"""
check process {svc} with pidfile {folder}/{svc}.pid
{programs}{rules}{limit}
check program {svc}_beat with path "{folder}/beat.sh {svc} {last_beat_key(svc)}" with timeout 10 seconds
  depends on {svc}
{programs}  if status != 0 for {SILENT_CYCLES} cycles then restart
{limit}"""


def build_start_script(folder: Path, daemon: str) -> str:
    return (
        f"#!/bin/sh\nexec {quote(daemon)} --start --oknodo --background --make-pidfile "
        f'--pidfile "{folder}/$1.pid" --output "{folder}/$1.log" --startas "{folder}/target.sh" -- "$1"\n'
    )


def build_stop_script(folder: Path, daemon: str) -> str:
    """Return a script that notes that it stops a service that runs, and stops it."""
    return (
        f'#!/bin/sh\nkill -0 "$(cat "{folder}/$1.pid")" && echo "$(date +%s.%N) $1" >>"{folder}/stops"\n'
        f'{quote(daemon)} --stop --oknodo --pidfile "{folder}/$1.pid" --retry TERM/{STOP_WITHIN_SEC}/KILL/5\n'
    )


def build_beat_script(folder: Path, needs: Needs) -> str:
    """Return a script `SERVICE KEY` that fails if the last beat is older than the timeout.

    A beat lives for two timeouts. That a process is gone is the other check's business: monit gets the result
    one look late, and would restart what it has just started. A service has time for its first beat after a
    start. A bus that does not answer says nothing.
    """
    client = find_program("redis-cli") or "redis-cli"
    return (
        f'#!/bin/sh\nkill -0 "$(cat "{folder}/$1.pid")" || exit 0\n'
        f'age=$(($(date +%s) - $(stat -c %Y "{folder}/$1.pid" || echo 0)))\n'
        f'test "$age" -lt {needs.grace_sec:.0f} && exit 0\n'
        f'left=$({quote(client)} --no-auth-warning -u {quote(needs.url)} PTTL "$2") || exit 0\n'
        f'test "$left" -ge {needs.timeout_sec * 1000:.0f}\n'
    )
