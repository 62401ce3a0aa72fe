"""A fleet whose servers let in only who has business there: users, passwords and URLs in its data folder.

`secrets/<user>` holds a password, `urls/<user>/<bus>` the URL with it, `<bus>/users.acl` what each user may
do. An agent is told the names of its own URL files: no password is in an argument or an environment.
"""

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from marketswarm.acl import OPERATOR, AclError, names
from marketswarm.exit import Code, Exit
from marketswarm.fleet.plan import Plan
from marketswarm.guarding import FILE, SecretError, acl_texts, passwords, url_files, write_all
from marketswarm.private import own_folder, require_own_files
from marketswarm.settings import VigilSettings, read
from marketswarm.truth import Truth

SECRETS: Final = "secrets"
_URLS: Final = "urls"
_OWNERS: Final = 0o600


@dataclass(frozen=True, slots=True)
class Guard:
    """The URL files of every user: `files[user][bus]`. Of each bus of ours, `variables` has the variable."""

    files: Mapping[str, Mapping[str, Path]]
    variables: Mapping[str, str]

    def environ(self, user: str) -> dict[str, str]:
        """What a process needs to know to come in as `user`."""
        return {f"{self.variables[bus]}_FILE": str(path) for bus, path in self.files[user].items()}

    def url(self, bus: str, user: str = OPERATOR) -> str | None:
        """The URL of a bus of ours for a user, with the password; None for a bus that is not ours."""
        path = self.files[user].get(bus)
        return path.read_text(encoding="utf-8").strip() if path else None


def prepare(plan: Plan, truth: Truth, data: Path) -> Guard:
    """Writes all of it for the buses that are ours; passwords that are there stay.

    Raises:
        Exit: code 2, when there is no bus of ours, or a password or a name won't do.
        OSError: the folder can't be written, or holds what is not ours.
    """
    ours = [bus for bus in plan.buses if bus.port is not None]
    if not ours:
        raise Exit(Code.CONFIGURATION, "--acl: no server is started here; see `marketswarm acl` for your own")
    if os.path.lexists(data / SECRETS):
        own_folder(data / SECRETS)
        require_own_files(data / SECRETS)
    try:
        known, texts = _texts(truth, data, make=True)
    except (AclError, SecretError) as error:
        raise Exit(Code.CONFIGURATION, f"--acl: {error}") from None
    for folder in (
        data / _URLS,
        *(data / _URLS / user for user in known),
        *(data / bus.name for bus in ours),
    ):
        own_folder(folder)
    files = url_files(data / _URLS, known, {bus.name: bus.url for bus in ours})
    written = dict(pair for of_user in files.values() for pair in of_user.values())
    write_all(written | {data / bus.name / FILE: texts[bus.name] for bus in ours}, _OWNERS)
    paths = {user: {bus: path for bus, (path, _) in of_user.items()} for user, of_user in files.items()}
    return Guard(paths, {bus.name: bus.variable for bus in ours})


def is_behind(truth: Truth, data: Path, buses: Collection[str]) -> bool:
    """Whether the users that these buses of the fleet in `data` know are not those of `truth`."""
    if not buses:
        return False
    try:
        _, texts = _texts(truth, data, make=False)
        return any((data / bus / FILE).read_text(encoding="utf-8") != texts.get(bus) for bus in buses)
    except (AclError, SecretError, OSError):
        return True


def _texts(truth: Truth, data: Path, *, make: bool) -> tuple[dict[str, str], dict[str, str]]:
    """Passwords by user, and what each bus is to know, by its name."""
    settings = read(VigilSettings)
    known, _ = passwords(data / SECRETS, names(truth), make=make)
    alerts = settings.alert_channel or "healer:alerts"
    return known, acl_texts(truth, known, truth_key=settings.truth_redis_key, alert_channel=alerts)
