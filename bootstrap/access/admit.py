"""Who may come in: written for the servers, which read it at their start, and told to those that run.

The folder ACCESS_DIR has all of it: `secrets/<user>` the passwords, made once; `urls/<user>/<bus>` what each
user is given; `acl/<bus>/users.acl` what each server reads. No password is in a log. Not here: who may do
what (`marketswarm.acl`), and the truth itself, which `bootstrap` checks and seeds.
"""

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from bootstrap.access.renewing import renew
from marketswarm import log as logs
from marketswarm.acl import OPERATOR, AclError, names
from marketswarm.agent import Code, Exit
from marketswarm.agent.service_config import load
from marketswarm.bus import BusError, find_url
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
from marketswarm.truth import load as load_alone

NAME: Final = "access"
_NOBODY: Final = b'{"services":{}}'
_OWNERS: Final = 0o600
_EVERYONES: Final = 0o644  # a server is another user; what it reads are hashes

log = logs.get(NAME)


async def main() -> int:
    """Does what the environment says; the exit code. Raises Exit."""
    settings = read(AccessSettings)
    logs.configure(NAME, settings)
    truth = _truth(settings.truth_path, settings.access_dir)
    if truth is None:
        return Code.DONE
    try:
        await _admit(truth, settings)
    except (AclError, SecretError) as error:
        raise Exit(Code.CONFIGURATION, str(error)) from None
    except OSError as error:
        where = error.filename or settings.access_dir
        raise Exit(Code.CONFIGURATION, f"ACCESS_DIR: {where}: {error.strerror}") from None
    return Code.DONE


def _truth(path: Path, folder: Path) -> Truth | None:
    """The truth whose users these are; None when it won't do and there are users already.

    Bootstrap is to say what is wrong with it, and for that the buses must run: the first time with no users
    but bootstrap and the operator.
    """
    try:
        return load(path.read_bytes()).truth
    except OSError as error:
        raise Exit(Code.CONFIGURATION, f"TRUTH_PATH: {path} can't be read ({error.strerror})") from None
    except TruthError as error:
        log.warning(
            "access.truth_unusable", path=str(path), mistakes=len(error.problems), next="see bootstrap"
        )
    alone = load_alone(_NOBODY).truth
    there = all(_acl_file(folder, bus).exists() for bus in alone.bus_names())
    return None if there else alone


async def _admit(truth: Truth, settings: AccessSettings) -> None:
    """Writes what is new and tells servers of it. Raises AclError, SecretError, OSError, Exit."""
    folder = settings.access_dir
    if settings.default_user == "off":
        close_default(folder / "secrets")
    known, made = passwords(folder / "secrets", names(truth), make=True)
    texts = acl_texts(
        truth,
        known,
        truth_key=settings.truth_redis_key,
        alert_channel=settings.alert_channel or "healer:alerts",
    )
    urls = _urls(truth)
    keys = url_files(folder / "urls", known, urls)
    _write(dict(file for of_user in keys.values() for file in of_user.values()), _OWNERS)
    _write({_acl_file(folder, bus): text for bus, text in texts.items()}, _EVERYONES)
    log.info("access.written", users=len(known), new_passwords=made, buses=list(urls))
    operators = {bus: with_user(url, OPERATOR, known[OPERATOR]) for bus, url in urls.items()}
    await asyncio.gather(*(renew(bus, url, _acl_file(folder, bus)) for bus, url in operators.items()))


def _urls(truth: Truth) -> dict[str, str]:
    """Where the two buses are, if they are ours: not if the URL names a user already, or a socket."""
    found = {}
    for bus in (SYSTEM, MARKET):
        try:
            url = find_url(bus, os.environ, truth)
        except BusError as error:  # whoever needs it will say so
            log.warning("access.bus_unknown", bus=bus, why=error.detail)
            continue
        if urlsplit(url).scheme != "unix" and "@" not in urlsplit(url).netloc:
            found[bus] = url
    return found


def _write(texts: Mapping[Path, str], mode: int) -> None:
    """Writes those that are not so already."""
    write_all({path: text for path, text in texts.items() if _text_of(path) != text}, mode)


def _text_of(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.exists() else None


def _acl_file(folder: Path, bus: str) -> Path:
    return folder / "acl" / folder_of(bus) / FILE
