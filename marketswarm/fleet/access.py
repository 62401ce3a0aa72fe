"""A fleet whose servers let in only who has business there: users, passwords and URLs in its data folder.

`secrets/<user>` holds a password, `urls/<user>/<bus>` the URL with it, `<bus>/users.acl` what each user may
do. An agent is told the names of its own URL files: no password is in an argument or an environment.
"""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from marketswarm.acl import OPERATOR, AclError, user_names
from marketswarm.bus import Bus, BusError
from marketswarm.exit import Code, Exit
from marketswarm.fleet.data_folder import make_private_folder, require_private_files
from marketswarm.fleet.plan import Plan
from marketswarm.keys import ALERTS
from marketswarm.passwords import (
    DEFAULT,
    FILE,
    SecretError,
    acl_texts,
    close_default,
    passwords,
    url_files,
    write_all,
)
from marketswarm.settings import MonitorSettings, read
from marketswarm.truth import Truth

SECRETS: Final = "secrets"
_URLS: Final = "urls"
_OWNERS: Final = 0o600


@dataclass(frozen=True, slots=True)
class FleetAccess:
    """The URL files of every user: `files[user][bus]`. Of each bus of ours, `variables` has the variable.

    `closed`: nobody looks without a password.
    """

    files: Mapping[str, Mapping[str, Path]]
    variables: Mapping[str, str]
    closed: bool = False

    def environ(self, user: str) -> dict[str, str]:
        """What a process needs to know to come in as `user`."""
        return {f"{self.variables[bus]}_FILE": str(path) for bus, path in self.files[user].items()}

    def url(self, bus: str, user: str = OPERATOR) -> str | None:
        """The URL of a bus of ours for a user, with the password; None for a bus that is not ours."""
        path = self.files[user].get(bus)
        return path.read_text(encoding="utf-8").strip() if path else None


def prepare_access(plan: Plan, truth: Truth, data: Path, *, closed: bool = False) -> FleetAccess:
    """Writes all of it for the buses that are ours; passwords that are there stay.

    With `closed` nobody looks without a password either.

    Raises:
        Exit: code 2, when there is no bus of ours, or a password or a name won't do.
        OSError: the folder can't be written, or holds what is not ours.
    """
    ours = [bus for bus in plan.buses if bus.port is not None]
    if not ours:
        raise Exit(Code.CONFIGURATION, "--acl: no server is started here; see `marketswarm acl` for your own")
    known, texts = _texts(truth, data, [bus.name for bus in ours], closed=closed)
    files = url_files(data / _URLS, known, {bus.name: bus.url for bus in ours})
    written = dict(pair for of_user in files.values() for pair in of_user.values())
    write_all(written | {data / bus.name / FILE: texts[bus.name] for bus in ours}, _OWNERS)
    paths = {user: {bus: path for bus, (path, _) in of_user.items()} for user, of_user in files.items()}
    return FleetAccess(paths, {bus.name: bus.variable for bus in ours}, closed=DEFAULT in known)


async def renew_users(truth: Truth, data: Path, operators: Mapping[str, str], *, keep: bool) -> bool:
    """Make the users of a fleet that runs in `data` those of `truth`; whether there was anything to do.

    Loading users cuts all connections of a bus, so nothing is loaded that is as it was.

    Args:
        truth: the document whose services are to be let in.
        data: the fleet's folder.
        operators: by bus, the URL that the fleet knows for its operator; empty for a fleet that lets all in.
        keep: also keep users that the truth has no more: until it is seeded they are somebody's.

    Raises:
        Exit: code 2, when a password or a name won't do.
        BusError: a bus did not load them; what it had loaded before stays.
        OSError: the folder can't be written, or holds what is not ours.
    """
    if not operators:
        return False
    known, texts = _texts(truth, data, operators)
    paths = {bus: data / bus / FILE for bus in operators if bus in texts}
    before = {bus: path.read_text(encoding="utf-8") for bus, path in paths.items()}
    wanted = {bus: texts[bus] + (_others(texts[bus], before[bus]) if keep else "") for bus in paths}
    news = {
        bus: text
        for bus, text in wanted.items()
        if sorted(text.split("\n")) != sorted(before[bus].split("\n"))
    }
    files = url_files(data / _URLS, known, operators)
    urls = dict(pair for of_user in files.values() for pair in of_user.values())
    write_all({path: text for path, text in urls.items() if not path.exists()}, _OWNERS)
    write_all({paths[bus]: text for bus, text in news.items()}, _OWNERS)
    for bus in news:
        operator = Bus(bus, operators[bus])
        try:
            await operator.ask(operator.client.acl_load())
        except BusError:
            write_all({paths[each]: before[each] for each in news}, _OWNERS)
            raise
        finally:
            await operator.aclose()
    return bool(news)


def _others(text: str, before: str) -> str:
    """The lines of users who are in `before` alone."""
    names_of = {line.split(" ", 2)[1] for line in text.splitlines()}
    return "".join(f"{line}\n" for line in before.splitlines() if line.split(" ", 2)[1] not in names_of)


def _texts(
    truth: Truth, data: Path, buses: Iterable[str], *, closed: bool = False
) -> tuple[dict[str, str], dict[str, str]]:
    """Passwords by user, and what each bus is to know, by its name; in folders that are ours."""
    if os.path.lexists(data / SECRETS):
        make_private_folder(data / SECRETS)
        require_private_files(data / SECRETS)
    settings = read(MonitorSettings)
    alerts = settings.alert_channel or ALERTS
    try:
        if closed:
            close_default(data / SECRETS)
        known, _ = passwords(data / SECRETS, user_names(truth), make=True)
        texts = acl_texts(truth, known, truth_key=settings.truth_redis_key, alert_channel=alerts)
    except (AclError, SecretError) as error:
        raise Exit(Code.CONFIGURATION, f"--acl: {error}") from None
    for folder in (data / _URLS, *(data / _URLS / user for user in known), *(data / bus for bus in buses)):
        make_private_folder(folder)
    return known, texts
