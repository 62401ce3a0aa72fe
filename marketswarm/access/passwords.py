"""Make, read and write passwords and ACL files; each file is written whole or not at all.

A password is in the file `<folder>/<user>`, which only its owner can read; the ACL file holds its SHA-256.
Neither is ever in a log, an argument or an error. The rights of users are in `marketswarm.access`.
"""

import contextlib
import hashlib
import os
import re
import secrets
import tempfile
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, urlsplit

from marketswarm.access.grant import format_acl_file
from marketswarm.access.users import DEFAULT, JOIN, build_users
from marketswarm.keys import ALERTS
from marketswarm.text import format_names
from marketswarm.truth import Truth

if TYPE_CHECKING:
    from marketswarm.settings.programs import MonitorSettings

ACL_FILE: Final = "users.acl"
DATABASE_READER: Final = "marketswarm_reader"
"""The PostgreSQL role that reads the archive and can't write. It is made when a server is set up."""
DATABASE_SIGNALS: Final = "marketswarm_signals"
"""The one that adds signals, and can neither change nor delete a row."""
PRIVATE: Final = 0o600
"""The permissions of a file with a password or a key."""
MIN_PASSWORD_CHARS: Final = 16
_MAX_PASSWORD_BYTES: Final = 4096
_RANDOM_BYTES: Final = 32


class SecretError(Exception):
    """A password is missing or unusable; the message names its file and never its value."""


def load_passwords(
    folder: Path, names: Iterable[str], *, make_missing: bool = False
) -> tuple[dict[str, str], list[str]]:
    """Return the password of each user, and the names of the users whose password was made now.

    The folder has one file for each user; `default` and `join` are added to `names` if they have one, and
    `default` beside `join` in any case. With
    `make_missing`, missing passwords are made, in files that only their owner can read. Raises SecretError if
    a password is missing or unusable, and OSError.
    """
    if make_missing:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    names = [*names, *(each for each in (DEFAULT, JOIN) if each not in names and (folder / each).exists())]
    if JOIN in names and DEFAULT not in names:
        names.append(DEFAULT)  # other machines reach the ports: nobody may read there without a password
    missing = [name for name in names if not (folder / name).exists()]
    if missing and not make_missing:
        raise SecretError(
            f"{folder} has no password for {format_names(missing)}: --make-secrets makes what is missing"
        )
    for name in missing:
        _create_password_file(folder / name, secrets.token_urlsafe(_RANDOM_BYTES))
    return {name: _read_password(folder / name) for name in names}, missing


def close_default_user(folder: Path) -> None:
    """Make a password for the user `default` if it has none, so that every client needs a password.

    Remove `<folder>/default` to undo it.
    """
    load_passwords(folder, [DEFAULT], make_missing=True)


def admit_other_machines(folder: Path) -> None:
    """Make passwords for `join`, and so for `default`, where they have none: other machines can join safely.

    Every client needs a password then. Remove `<folder>/join` and `<folder>/default` to undo it.
    """
    load_passwords(folder, [JOIN], make_missing=True)


def format_acl_files(
    truth: Truth, passwords: Mapping[str, str], settings: "MonitorSettings", joining: Collection[str]
) -> dict[str, str]:
    """Return the text of each bus's ACL file, by the name of the bus.

    `passwords` is the password of each user. If `default` is one of them, every client needs a password. If
    `join` is one of them, other machines may beat for the services in `joining`. `settings` name the key of
    the truth, and the channel of alerts if the truth names none. Raises AclError if the rights can't be
    derived from the truth.
    """
    hashes = {name: hashlib.sha256(password.encode()).hexdigest() for name, password in passwords.items()}
    return {
        bus: format_acl_file(
            build_users(
                truth,
                bus,
                truth_key=settings.truth_redis_key,
                alert_channel=settings.alert_channel or ALERTS,
                closed=DEFAULT in passwords,
                joining=joining if JOIN in passwords else None,
            ),
            hashes,
        )
        for bus in truth.bus_names()
    }


def write_files(texts: Mapping[Path, str], mode: int = PRIVATE) -> None:
    """Write the text of each path to its file with the permissions `mode`, or change no file on an error.

    If the replacement of a file itself fails, those before it are replaced already. Drafts that are left are
    deleted. Raises OSError.
    """
    drafts: list[tuple[Path, Path]] = []
    try:
        for path, text in texts.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            drafts.append((_write_draft(path, text, mode), path))
        while drafts:
            draft, path = drafts[0]
            draft.replace(path)
            drafts.pop(0)
    finally:
        for draft, _ in drafts:
            draft.unlink(missing_ok=True)


def make_folder_name(bus: str) -> str:
    """Return the name of a bus with `_` in place of characters that a path must not have."""
    return re.sub(r"[^A-Za-z0-9_.-]", "_", bus).lstrip(".") or "_"


def replace_url_user(url: str, user: str, password: str) -> str:
    """Return a bus's URL with this user and password in place of those that it has."""
    parts = urlsplit(url)
    place = parts.netloc.rpartition("@")[2]
    return parts._replace(netloc=f"{quote(user, safe='')}:{quote(password, safe='')}@{place}").geturl()


def build_url_files(folder: Path, passwords: Mapping[str, str], urls: Mapping[str, str]) -> dict[Path, str]:
    """Return, by path, the text of each `<folder>/<user>/<bus>`: the URL of the bus for the user."""
    return {
        find_url_file(folder, user, bus): f"{replace_url_user(url, user, password)}\n"
        for user, password in passwords.items()
        for bus, url in urls.items()
    }


def find_url_file(folder: Path, user: str, bus: str) -> Path:
    return folder / user / make_folder_name(bus)


def _create_password_file(path: Path, text: str) -> None:
    """Create a file for its owner alone, in one step; keep a file that exists by then. Delete the draft."""
    draft = _write_draft(path, f"{text}\n", PRIVATE)
    try:
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)
    finally:
        draft.unlink(missing_ok=True)


def _write_draft(path: Path, text: str, mode: int) -> Path:
    """Write a temporary file beside `path` with the permissions `mode`, sync it to disk; return its path."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # 0600 from its beginning
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    draft = Path(name)
    draft.chmod(mode)
    return draft


def _read_password(path: Path) -> str:
    with path.open("rb") as file:
        raw = file.read(_MAX_PASSWORD_BYTES + 1)
    try:
        text = raw.decode().strip()
    except UnicodeDecodeError:
        raise SecretError(f"{path}: the password is not UTF-8 text") from None
    if len(raw) > _MAX_PASSWORD_BYTES or len(text) < MIN_PASSWORD_CHARS or not text.isprintable():
        raise SecretError(
            f"{path}: a password is one line of {MIN_PASSWORD_CHARS} to {_MAX_PASSWORD_BYTES} characters"
        )
    return text
