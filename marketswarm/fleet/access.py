"""Make users for the servers of an embedded fleet (`up --acl`): passwords, URLs and ACL files.

In the data folder, `secrets/<user>` holds a password, `urls/<user>/<bus>` the URL with it, and
`<bus>/users.acl` the permissions of all users. The environment of an agent has the names of its own URL
files: no password is in an argument or an environment. Not here: what each user may do
(`marketswarm.access`).
"""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from marketswarm.access import passwords
from marketswarm.access.users import DEFAULT, OPERATOR, AclError, user_names
from marketswarm.agent.service_modules import find_elsewhere
from marketswarm.bus import Bus
from marketswarm.exit import Mistake
from marketswarm.fleet.data_folder import make_private_folder, require_private_files
from marketswarm.fleet.plan import Plan
from marketswarm.settings import read_settings
from marketswarm.settings.programs import MonitorSettings
from marketswarm.truth import Truth

SECRETS: Final = "secrets"
_URLS: Final = "urls"


@dataclass(frozen=True, slots=True)
class FleetAccess:
    """The files with the URLs, passwords included, of the buses that the fleet runs.

    `folder` has them; seeding writes those of a user added after the start. `variables[bus]` is the variable
    of the environment for the URL of a bus. `closed` means that no client may read without a password.
    """

    folder: Path
    variables: Mapping[str, str]
    closed: bool = False

    def environ(self, user: str) -> dict[str, str]:
        """Return the variables, `<BUS>_URL_FILE`, by which a process logs in to the buses as `user`."""
        return {f"{self.variables[bus]}_FILE": str(path) for bus, path in self.find_files(user).items()}

    def url(self, bus: str, user: str = OPERATOR) -> str | None:
        """Return a user's URL of a bus, with the password; None for a bus that the fleet does not run."""
        path = self.find_files(user).get(bus)
        return path.read_text(encoding="utf-8").strip() if path else None

    def find_files(self, user: str) -> dict[str, Path]:
        """Return the files with a user's URLs, by bus."""
        return {bus: passwords.find_url_file(self.folder, user, bus) for bus in self.variables}


def prepare_access(
    plan: Plan, truth: Truth, data: Path, *, closed: bool = False, joined: bool = False
) -> FleetAccess:
    """Write passwords, URLs and ACL files for the buses that the fleet runs; passwords that exist stay.

    With `closed`, every client needs a password to read. With `joined` as well, and there is a user for the
    beats of other machines. Raises Exit, code 2, if the fleet runs no bus, or a password or a name is
    unusable; OSError if the folder can't be written, or holds files of somebody else.
    """
    own_buses = [bus for bus in plan.buses if bus.port is not None]
    if not own_buses:
        raise Mistake("--acl: no server is started here; see `marketswarm acl` for your own")
    names = [bus.name for bus in own_buses]
    secrets, texts = _make_passwords_and_acls(truth, data, names, closed=closed, joined=joined)
    files = passwords.build_url_files(data / _URLS, secrets, {bus.name: bus.url for bus in own_buses})
    files |= {data / bus.name / passwords.ACL_FILE: texts[bus.name] for bus in own_buses}
    passwords.write_files(files)
    variables = {bus.name: bus.variable for bus in own_buses}
    return FleetAccess(data / _URLS, variables, closed=DEFAULT in secrets)


async def renew_users(truth: Truth, data: Path, operators: Mapping[str, str], *, keep: bool) -> bool:
    """Load the users of `truth` into the buses of a fleet that runs; return True if a bus loaded users.

    Loading users cuts all connections of a bus, so a bus whose users don't change loads nothing. If it fails
    or is cancelled, the ACL files are put back, so that the next call finds the change again.

    Args:
        operators: the operator's URLs by bus; empty for a fleet without users.
        keep: whether to keep the users of services that `truth` no longer names: these run until it is
            seeded.

    Raises:
        Exit: code 2; a password or a name is unusable.
        BusError: a bus did not load the users; it keeps those that it had.
        OSError: the folder can't be written, or holds another user's files.
    """
    if not operators:
        return False
    secrets, texts = _make_passwords_and_acls(truth, data, operators)
    paths = {bus: data / bus / passwords.ACL_FILE for bus in operators if bus in texts}
    before = {bus: path.read_text(encoding="utf-8") for bus, path in paths.items()}
    changed = {}
    for bus in paths:
        text = texts[bus]
        if keep:
            names = {line.split(" ", 2)[1] for line in text.splitlines()}
            others = (line for line in before[bus].splitlines() if line.split(" ", 2)[1] not in names)
            text += "".join(f"{line}\n" for line in others)
        if sorted(text.split("\n")) != sorted(before[bus].split("\n")):
            changed[bus] = text
    urls = passwords.build_url_files(data / _URLS, secrets, operators)
    passwords.write_files({path: text for path, text in urls.items() if not path.exists()})
    try:
        passwords.write_files({paths[bus]: text for bus, text in changed.items()})
        for bus in changed:
            await _load_acl(Bus(bus, operators[bus]))
    except BaseException:  # a cancellation, too: a file with users that no bus loaded would look unchanged
        passwords.write_files({paths[bus]: before[bus] for bus in changed})
        raise
    return bool(changed)


async def _load_acl(operator: Bus) -> None:
    """Have a bus load the users of its ACL file, which cuts its connections. Closes `operator`."""
    try:
        await operator.ask(operator.client.acl_load())
    finally:
        await operator.aclose()


def _make_passwords_and_acls(
    truth: Truth, data: Path, buses: Iterable[str], *, closed: bool = False, joined: bool = False
) -> tuple[dict[str, str], dict[str, str]]:
    """Return the passwords by user and the texts of the ACL files by bus; make what is missing."""
    if os.path.lexists(data / SECRETS):
        make_private_folder(data / SECRETS)
        require_private_files(data / SECRETS)
    settings = read_settings(MonitorSettings)
    try:
        if closed:
            passwords.close_default_user(data / SECRETS)
        if joined:
            passwords.admit_other_machines(data / SECRETS)
        secrets, _ = passwords.load_passwords(data / SECRETS, user_names(truth), make_missing=True)
        texts = passwords.format_acl_files(truth, secrets, settings, find_elsewhere(truth.services))
    except (AclError, passwords.SecretError) as error:
        raise Mistake(f"--acl: {error}") from None
    for folder in (data / _URLS, *(data / _URLS / user for user in secrets), *(data / bus for bus in buses)):
        make_private_folder(folder)
    return secrets, texts
