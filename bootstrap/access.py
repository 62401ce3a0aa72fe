"""Write users, passwords and URLs for a fleet in containers, and reload the users of servers that run.

`python -m bootstrap.access` is a one-shot that runs before the buses start. All its files are in the folder
ACCESS_DIR: `secrets/<user>` holds a password, made once; `urls/<user>/<bus>` the URL that a user connects
with; `acl/<bus>/users.acl` the users that a server loads at its start. No password is logged. Not here: who
may do what (`marketswarm.acl`), and the truth itself, which `bootstrap` checks and seeds.
"""

import asyncio
import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from marketswarm import log as logs
from marketswarm.acl import OPERATOR, AclError, user_names
from marketswarm.agent import Code, Exit, run, usable_bus
from marketswarm.agent.service_config import load
from marketswarm.bus import Bus, BusError, find_url
from marketswarm.keys import ALERTS
from marketswarm.passwords import (
    FILE,
    SecretError,
    acl_texts,
    close_default,
    folder_of,
    passwords,
    url_files,
    with_user,
    write_all,
)
from marketswarm.settings import AccessSettings, read
from marketswarm.truth import MARKET, SYSTEM, Truth, TruthError
from marketswarm.truth import load as load_document

NAME: Final = "access"
_EMPTY_TRUTH: Final = b'{"services":{}}'
_PRIVATE: Final = 0o600
_READABLE: Final = 0o644  # the server runs as another user; its file holds only hashes of passwords
_DIGEST_FILE: Final = "renewed"
"""The file beside an ACL file with the SHA-256 of the text that the server loaded last. ACL LOAD cuts all
connections, so it is sent once a change."""
_RETRY_WITHIN_SEC: Final = 10.0
_RETRY_EVERY_SEC: Final = 0.3
_NOT_RUNNING: Final = ("refused", "dns")  # no server, or no container of that name

log = logs.get(NAME)


async def main() -> int:
    """Write and reload the users of TRUTH_PATH. Return the exit code; raise Exit."""
    settings = read(AccessSettings)
    logs.configure(NAME, settings)
    truth = _load_truth(settings.truth_path, settings.access_dir)
    if truth is None:
        return Code.DONE
    try:
        await _write_users(truth, settings)
    except (AclError, SecretError) as error:
        raise Exit(Code.CONFIGURATION, str(error)) from None
    except OSError as error:
        where = error.filename or settings.access_dir
        raise Exit(Code.CONFIGURATION, f"ACCESS_DIR: {where}: {error.strerror}") from None
    return Code.DONE


def _load_truth(path: Path, folder: Path) -> Truth | None:
    """Load the truth, or return an empty truth if it has errors; None if there are users already.

    Bootstrap reports the errors of a truth, and for that the buses must run: the first time with no users but
    bootstrap and the operator.
    """
    try:
        return load(path.read_bytes()).truth
    except OSError as error:
        raise Exit(Code.CONFIGURATION, f"TRUTH_PATH: {path} can't be read ({error.strerror})") from None
    except TruthError as error:
        log.warning(
            "access.truth_unusable", path=str(path), mistakes=len(error.problems), next="see bootstrap"
        )
    empty = load_document(_EMPTY_TRUTH).truth
    users_exist = all(_acl_path(folder, bus).exists() for bus in empty.bus_names())
    return None if users_exist else empty


async def _write_users(truth: Truth, settings: AccessSettings) -> None:
    """Write what changed and reload the servers. Raise AclError, SecretError, OSError or Exit."""
    folder = settings.access_dir
    if settings.default_user == "off":
        close_default(folder / "secrets")
    known, made = passwords(folder / "secrets", user_names(truth), make=True)
    texts = acl_texts(
        truth,
        known,
        truth_key=settings.truth_redis_key,
        alert_channel=settings.alert_channel or ALERTS,
    )
    urls = _find_urls(truth)
    keys = url_files(folder / "urls", known, urls)
    _write_changed(dict(file for of_user in keys.values() for file in of_user.values()), _PRIVATE)
    _write_changed({_acl_path(folder, bus): text for bus, text in texts.items()}, _READABLE)
    log.info("access.written", users=len(known), new_passwords=made, buses=list(urls))
    operators = {bus: with_user(url, OPERATOR, known[OPERATOR]) for bus, url in urls.items()}
    await asyncio.gather(*(reload_users(bus, url, _acl_path(folder, bus)) for bus, url in operators.items()))


def _find_urls(truth: Truth) -> dict[str, str]:
    """Return the URLs of the two buses, without those that name a user already or a Unix socket."""
    found = {}
    for bus in (SYSTEM, MARKET):
        try:
            url = find_url(bus, os.environ, truth)
        except BusError as error:  # the program that needs the bus reports it
            log.warning("access.bus_unknown", bus=bus, why=error.detail)
            continue
        if urlsplit(url).scheme != "unix" and "@" not in urlsplit(url).netloc:
            found[bus] = url
    return found


def _write_changed(texts: Mapping[Path, str], mode: int) -> None:
    """Write the files whose text changed."""
    write_all({path: text for path, text in texts.items() if _read_text(path) != text}, mode)


def _read_text(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.exists() else None


def _acl_path(folder: Path, bus: str) -> Path:
    return folder / "acl" / folder_of(bus) / FILE


async def reload_users(name: str, url: str, users: Path) -> None:
    """Make a server reload its ACL file `users` if the file changed since the last reload.

    Args:
        name: the name of the bus.
        url: its URL with the operator's password.
        users: the ACL file.

    Raises:
        Exit: code 2 if the server refuses the password: it runs with other passwords.
    """
    note, digest = users.with_name(_DIGEST_FILE), hashlib.sha256(_read_bytes(users)).hexdigest().encode()
    if _read_bytes(note) == digest:
        return
    bus = usable_bus(name, url)
    try:
        if await _load_users(bus):
            note.write_bytes(digest)
    finally:
        await bus.aclose()


def _read_bytes(path: Path) -> bytes:
    return path.read_bytes() if path.exists() else b""


async def _load_users(bus: Bus) -> bool:
    """Return True if the server loaded the users, or will load them when it starts."""
    clock = asyncio.get_running_loop().time
    until = clock() + _RETRY_WITHIN_SEC
    while True:
        try:
            await bus.ask(bus.client.acl_load())
        except BusError as error:
            if error.reason in _NOT_RUNNING:
                return True
            if error.reason == "auth":
                raise Exit(Code.CONFIGURATION, _explain_other_passwords(bus.name)) from None
            if clock() >= until:
                log.warning("access.not_renewed", bus=bus.name, reason=error.reason, detail=error.detail)
                return False
        else:
            log.info("access.renewed", bus=bus.name)
            return True
        await asyncio.sleep(_RETRY_EVERY_SEC)


def _explain_other_passwords(bus: str) -> str:
    return f"{bus} runs with other passwords than those in ACCESS_DIR: restart it, then the agents"


if __name__ == "__main__":
    run(main)
