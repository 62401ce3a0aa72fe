"""With USERS=1 every agent of the rig is a user of its own, and a server that refused one fails the test.

So the fault matrix tries the users of `marketswarm.access` on every way that the code can go. The tests' own
hand is `default`, which may do anything here. Users are those of the truth that was there when an agent
started: a reseed that moves keys or channels wants `marketswarm acl` again, which nobody says here.
"""

import contextlib
import hashlib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

import redis

from marketswarm.access.grant import format_acl_file
from marketswarm.access.passwords import replace_url_user
from marketswarm.access.users import build_users
from marketswarm.truth import Truth, TruthError, parse_truth

ON = os.environ.get("USERS") == "1"
FILE = "rig.acl"
_BUSES = {"SYSTEM_REDIS_URL": "system-redis", "MARKET_REDIS_URL": "market-redis"}
_OURS = re.compile(r"redis://127\.0\.0\.1:\d+/?\d*")
_AWAY = (redis.RedisError, OSError)


def directives(folder: Path, config: Mapping[str, str]) -> dict[str, str]:
    """Return the server's directives for these users; none for a server that has users already."""
    if not ON or "aclfile" in config:
        return {}
    if not (folder / FILE).exists():
        (folder / FILE).write_text("user default on nopass ~* &* +@all\n", encoding="ascii")
    return {"aclfile": FILE}


def environ(module: str, env: Mapping[str, str], folder: Path) -> dict[str, str]:
    """The environment in which an agent is itself."""
    places = {name: url for name, url in env.items() if name in _BUSES and _OURS.fullmatch(url)}
    if not ON or not places:
        return dict(env)
    seeds = module == "bootstrap"
    truth = _shown(env, folder) if seeds else _seeded(env, places.values())
    if truth is None:
        return dict(env)
    for name, url in places.items():
        with contextlib.suppress(*_AWAY):
            _admit(url, truth, _BUSES[name], env)
    user = "bootstrap" if seeds else _user(module, truth)
    urls = {name: url for name, url in env.items() if name.endswith("_URL") and _OURS.fullmatch(url)}
    return dict(env) | {
        name: replace_url_user(url, user, _password(user)) for name, url in urls.items() if user
    }


def refused(port: int) -> list[str]:
    """Return what the server at that port refused to these users."""
    if not ON:
        return []
    try:
        with redis.Redis("127.0.0.1", port, decode_responses=True, socket_timeout=1) as client:
            users, entries = set(client.acl_users()), client.acl_log()
    except _AWAY:
        return []
    return [
        f"{entry['username']}: {entry['object']} ({entry['reason']})"
        for entry in entries
        if entry["username"] in users - {"default", "ear", "agent"} and entry["reason"] != "auth"
    ]


def _admit(url: str, truth: Truth, bus: str, env: Mapping[str, str]) -> None:
    where = {
        "truth_key": env.get("TRUTH_REDIS_KEY") or "truth:doc",
        "alert_channel": env.get("ALERT_CHANNEL") or "healer:alerts",
    }
    users = build_users(truth, bus, **where)
    hashes = {user.name: hashlib.sha256(_password(user.name).encode()).hexdigest() for user in users}
    with redis.Redis(port=urlsplit(url).port, socket_timeout=2) as client:
        for line in format_acl_file(users, hashes).splitlines():
            if not line.startswith("user default "):
                client.execute_command("ACL", "SETUSER", *line.split()[1:])
        client.acl_save()


def _shown(env: Mapping[str, str], folder: Path) -> Truth | None:
    with contextlib.suppress(OSError, TruthError):
        return parse_truth(Path(env.get("TRUTH_PATH") or folder / "truth.json").read_bytes()).truth
    return None


def _seeded(env: Mapping[str, str], urls: object) -> Truth | None:
    for url in urls:
        with contextlib.suppress(*_AWAY, TruthError), redis.Redis.from_url(url, socket_timeout=2) as client:
            if raw := client.get(env.get("TRUTH_REDIS_KEY") or "truth:doc"):
                return parse_truth(raw).truth
    return None


def _user(module: str, truth: Truth) -> str | None:
    """Return the user of a program. A test's program has its service in its name: `healer_on_strings`."""
    name = module.rpartition(".")[2]
    return next((word for word in (name, *name.split("_")) if word in truth.services), None)


def _password(user: str) -> str:
    return f"the password of {user}"
