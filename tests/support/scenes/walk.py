"""A person with the pages open: types the lines that they show, reads the messages, looks at the board.

    with open_desk(tmp_path, truth) as desk:
        desk.type(find_line("docs/adding.md", "marketswarm pause backup"))
        desk.read("backup failed").find_link("I see to it")

What is typed comes from the pages, so a page that is wrong makes a walk fail. Only what a test can't have as
it stands there is replaced: ports, and addresses of other hosts.
"""

import contextlib
import re
import shlex
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import orjson
from playwright.sync_api import Page

from support.pages import ROOT, blocks, commands
from support.rig import HOST, PLAIN, Proc, free_port
from support.rig.browser import DESK, PHONE, find_violations
from support.rig.process import descendants
from support.rig.shell import Shell
from support.waiting import until

README = ROOT / "README.md"
BOARD_IN_PAGES = "http://127.0.0.1:8080"
_SEVERITIES = ("info", "warning", "critical")
_OF_A_SHELL = re.compile(r"[|$>\n]")


def find_line(page: str, *parts: str) -> str:
    """Return the one command line of a page that is one of the parts, or has all of them; without remarks."""
    shown = {line.partition("  #")[0].strip() for line in commands(ROOT / page)}
    found = [part for part in parts if part in shown] or [
        line for line in shown if all(part in line for part in parts)
    ]
    assert len(found) == 1, f"{page} shows {found} with {parts}"
    return found[0]


def find_block(page: str, language: str, part: str) -> str:
    """Return the one block of a page in a language that has `part` in it."""
    found = [block for block in blocks(ROOT / page, language) if part in block]
    assert len(found) == 1, f"{page} shows {len(found)} blocks with {part!r}"
    return found[0]


@dataclass(frozen=True)
class ReadMessage:
    """A message as the receiver of README prints it: `severity - title - text`, its links as lines."""

    severity: str
    title: str
    text: str

    def find_link(self, label: str) -> str:
        """Return the address of the one link whose label fits a regular expression."""
        found = re.findall(rf"^{label}: (\S+)$", self.text, re.MULTILINE)
        assert len(found) == 1, f"{len(found)} links {label!r} in {self}"
        return str(found[0])


class Desk:
    """A fleet as README starts it, a terminal in its folder, and the receiver of its messages.

    Attributes:
        url: the board's.
        shell: the terminal; its folder has the truth.
        up: the command that runs the fleet.
    """

    def __init__(self, folder: Path, hook: Proc, hook_port: int) -> None:
        self.folder, self._hook = folder, hook
        self.shell = Shell(folder)
        self.board_port, self.port = free_port(), free_port()
        self.url = f"http://{HOST}:{self.board_port}"
        self.hook_port = hook_port
        self.up: Proc

    def start(self, *options: str, **env: str) -> None:
        """Start the fleet as the two commands of README and the page of messages say."""
        (webhook,) = set(re.findall(r"WEBHOOK_URL=(\S+) make run", README.read_text(encoding="utf-8")))
        env = {"WEBHOOK_URL": webhook.replace(":9000", f":{self.hook_port}"), **self._make_link_key(), **env}
        ports = ("--port", str(self.port), "--board-port", str(self.board_port))
        self.up = Proc("marketswarm", env, self.folder, "up", *options, *ports)
        self.up.wait_log("fleet.up", 120)

    def _make_link_key(self) -> dict[str, str]:
        """Return the variables that the page of messages exports for links that act."""
        block = find_block("docs/notifications.md", "bash", "APPROVAL_LINK_KEY")
        script = block.replace("https://status.example", self.url)
        said = self.type(f'{script}\necho "$BOARD_PUBLIC_URL $APPROVAL_LINK_KEY"')
        address, key = said.split()
        return {"BOARD_PUBLIC_URL": address, "APPROVAL_LINK_KEY": key}

    def translate(self, line: str) -> str:
        """Return a line of a page with the board and the buses of this fleet."""
        line = line.replace(BOARD_IN_PAGES, self.url).replace("-p 6379", f"-p {self.port}")
        return line.replace("-p 6380", f"-p {self.port + 1}")

    def ask(self, line: str, **env: str) -> "subprocess.CompletedProcess[str]":
        """Type a line of a page, or several, and return what became of it."""
        line = self.translate(line)
        if line.startswith("marketswarm ") and not _OF_A_SHELL.search(line):
            return self.shell(*shlex.split(line)[1:], **env)
        path = f"{Path(sys.executable).parent}:{self.shell.env['PATH']}"
        return subprocess.run(
            ["sh", "-ec", line],
            cwd=self.folder,
            env={**self.shell.env, "PATH": path, **env},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def type(self, line: str, **env: str) -> str:
        """Type what must succeed; return what it prints."""
        done = self.ask(line, **env)
        assert done.returncode == 0, f"{line}: {done.stdout}{done.stderr}"
        return done.stdout

    # -- what arrives

    def messages(self) -> list[ReadMessage]:
        """Return what the receiver has printed, without the lines of its own log."""
        lines = [line for line in self._hook.text().splitlines() if not line.startswith(f"{HOST} - - ")]
        found: list[ReadMessage] = []
        for line in lines:
            severity, _, rest = line.partition(" - ")
            if severity in _SEVERITIES and rest:
                title, _, text = rest.partition(" - ")
                found.append(ReadMessage(severity, title, text))
            elif found:
                found[-1] = ReadMessage(found[-1].severity, found[-1].title, f"{found[-1].text}\n{line}")
        return found

    def read(self, part: str, after: int = 0, within: float = 60.0) -> ReadMessage:
        """Return the first message with `part` in its title or text, of those after so many; wait for it."""

        def find() -> ReadMessage | None:
            new = self.messages()[after:]
            return next((each for each in new if part in f"{each.title}\n{each.text}"), None)

        found: ReadMessage = until(
            find, within, lambda: f"a message with {part!r}; there is {self.messages()}"
        )
        return found

    # -- how the fleet is

    def verdict(self, svc: str) -> str | None:
        """Return the verdict of a service in `marketswarm status`; None if that does not list it."""
        rows = orjson.loads(self.shell.said("status", "--json"))["services"]
        return next((row["verdict"] for row in rows if row["svc"] == svc), None)

    def get(self, path: str) -> httpx.Response:
        return httpx.get(self.url + path, timeout=15, verify=PLAIN)

    def find_process(self, svc: str) -> int:
        """Return the pid that `pgrep -f services.SVC` shows, of this fleet alone."""
        (pid,) = (pid for pid, line in descendants(self.up.pid) if f"services.{svc}" in line)
        return pid


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) == 0


@contextlib.contextmanager
def open_desk(folder: Path, truth: Mapping[str, Any] | bytes) -> Iterator[Desk]:
    """Start the receiver that README shows, at a port of its own; end it and the fleet in the end."""
    port = free_port()
    source = find_block("README.md", "python", "http.server").replace("9000", str(port))
    (folder / "hook.py").write_text(source, encoding="utf-8")
    with Proc("hook", {"PYTHONPATH": str(folder)}, folder) as hook:
        until(lambda: _listens(port), what=hook)
        desk = Desk(folder, hook, port)
        desk.shell.write(truth)
        try:
            yield desk
        finally:
            if hasattr(desk, "up"):
                desk.up.stop(60)


def look(page: Page) -> None:
    """Assert that axe finds nothing on a page, light at a desk and dark on a phone, which it fits."""
    page.set_viewport_size(DESK)
    page.emulate_media(color_scheme="light")
    assert find_violations(page) == [], page.url
    page.emulate_media(color_scheme="dark")
    page.set_viewport_size(PHONE)
    assert find_violations(page) == [], page.url
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{page.url} is too wide"
    page.emulate_media(color_scheme="light")
    page.set_viewport_size(DESK)
