"""Healthchecks with PostgreSQL, uWSGI and its sender of alerts, as its own Docker image runs them.

HEALTHCHECKS_FOLDER names a checkout, with its packages and uWSGI in `.venv` inside it.
"""

import contextlib
import json
import os
import secrets
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from bench.archive import run_postgres
from bench.notify import Receiver
from bench.peers.peer import SERVICES, SLOW_TIMEOUT_SEC, Peer
from bench.peers.prometheus import run_command
from bench.server import find_free_port, wait_for_port

BIN: Final = "$HEALTHCHECKS_FOLDER/.venv/bin"
PROGRAMS: Final = (f"{BIN}/python", f"{BIN}/uwsgi")
WORKERS: Final = 4
"""As many as its image has take pings, and as many send alerts, where by default there is one."""
DIFFERENCE: Final = (
    f"times out after {SLOW_TIMEOUT_SEC:g} s, which is written into its database: by its API a check has "
    "at least 60 s and 60 s of grace. It looks for deaths every 2 s, and sends a webhook for each, four at a "
    "time, where by default it is one. A ping is a connection, and a row on disk before it is acknowledged"
)
SETUP: Final = """
import json, sys
from datetime import timedelta
from django.contrib.auth.models import User
from django.utils.timezone import now
from hc.accounts.models import Profile, Project
from hc.api.models import Channel, Check

names, timeout_sec, url = json.loads(sys.stdin.readline())
user = User.objects.create(username="bench", email="bench@localhost")
Profile.objects.for_user(user)
project = Project.objects.create(owner=user)
hook = dict(method_up="POST", url_up="", body_up="", headers_up={})
hook |= dict(method_down="POST", url_down=url, body_down='{"check": $NAME_JSON}', headers_down={})
channel = Channel.objects.create(project=project, kind="webhook", value=json.dumps(hook))
checks = [
    Check(project=project, name=name, timeout=timedelta(seconds=timeout_sec), grace=timedelta(0),
          status="up", last_ping=now())
    for name in names
]
for check in checks:
    check.alert_after = check.going_down_after()
Check.objects.bulk_create(checks)
channel.checks.set(checks)
print(json.dumps([str(check.code) for check in checks]))
"""
"""It makes the checks as if each was pinged just now: one that never was is never missed."""


def find_names(document: bytes) -> list[str]:
    """Return the check that a webhook says is down."""
    return [json.loads(document)["check"]]


def make_environ(database: str, port: int) -> dict[str, str]:
    """Return its settings, for a PostgreSQL at a URL."""
    url = urlsplit(database)
    return os.environ | {
        "DB": "postgres",
        "DB_HOST": url.hostname or "",
        "DB_PORT": str(url.port),
        "DB_NAME": url.path.strip("/"),
        "DB_USER": url.username or "",
        "DB_PASSWORD": url.password or "",
        "DB_CONN_MAX_AGE": "600",
        "DEBUG": "False",
        "SECRET_KEY": secrets.token_hex(),
        "SITE_ROOT": f"http://127.0.0.1:{port}",
        "INTEGRATIONS_ALLOW_PRIVATE_IPS": "True",
    }


def run_to_its_end(folder: Path, env: Mapping[str, str], *words: str, stdin: str = "") -> str:
    """Run a command of `manage.py`, and return what it prints. Raise RuntimeError if it fails."""
    command = [f"{folder}/.venv/bin/python", "manage.py", *words]
    ended = subprocess.run(
        command, cwd=folder, env=env, input=stdin, capture_output=True, text=True, timeout=300, check=False
    )
    if ended.returncode:
        raise RuntimeError(f"manage.py {words[0]} failed: {ended.stderr[-2000:]}")
    return ended.stdout


@contextlib.contextmanager
def run_peer(receiver: Receiver) -> Iterator[Peer]:
    names, port = [f"svc{n}" for n in range(SERVICES)], find_free_port()
    folder = Path(os.environ["HEALTHCHECKS_FOLDER"]).absolute()
    with run_postgres() as (url, postgres_pid), contextlib.ExitStack() as ends:
        env = make_environ(url, port)
        run_to_its_end(folder, env, "migrate")
        orders = json.dumps([names, SLOW_TIMEOUT_SEC, receiver.url]) + "\n"
        codes = json.loads(
            run_to_its_end(folder, env, "shell", "--no-imports", "--command", SETUP, stdin=orders)
        )
        commands = [
            [f"{folder}/.venv/bin/uwsgi", "--strict", "--master", "--die-on-term", "--http-socket",
             f"127.0.0.1:{port}", "--processes", str(WORKERS), "--module", "hc.wsgi:application",
             "--enable-threads", "--thunder-lock", "--buffer-size", "32768", "--max-fd", "10000",
             "--disable-logging"],
            [f"{folder}/.venv/bin/python", "manage.py", "sendalerts", "--skip-checks", "--num-workers",
             str(WORKERS)],
        ]  # fmt: skip
        pids = [ends.enter_context(run_command(command, folder, env)) for command in commands]
        wait_for_port(port)
        yield Peer(port, [f"/ping/{code}" for code in codes], names, [*pids, postgres_pid], SLOW_TIMEOUT_SEC)
