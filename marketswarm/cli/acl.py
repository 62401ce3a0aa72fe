"""Implement `marketswarm acl`: write each user's permissions on each bus, as ACL files for its server."""

import os
from pathlib import Path
from typing import Annotated

from marketswarm.access.passwords import (
    ACL_FILE,
    SecretError,
    build_url_files,
    close_default_user,
    format_acl_files,
    load_passwords,
    make_folder_name,
    write_files,
)
from marketswarm.access.users import AclError, user_names
from marketswarm.agent.service_modules import find_elsewhere
from marketswarm.bus import Bus, BusError, find_bus_url
from marketswarm.cli import output
from marketswarm.cli.options import TRUTH, flag, option
from marketswarm.cli.validate import read_valid_truth
from marketswarm.exit import Mistake
from marketswarm.settings import read_settings
from marketswarm.settings.programs import MonitorSettings
from marketswarm.truth import Truth

_READABLE = 0o644  # a server in a container is another user; what it reads there are hashes
_NEXT_STEPS = [
    "Next: a server reads its file at its start (--aclfile), or when the operator says ACL LOAD.",
    "Each agent gets a URL of its own, redis://<service>:<password>@<host>:<port>, in the file that",
    "<BUS>_URL_FILE names (--urls DIR writes them); bootstrap and the marketswarm command get those of",
    "bootstrap and operator.",
]


def acl(
    truth: Annotated[
        Path, option("--truth", "FILE", "Whose services these are.", envvar="TRUTH_PATH")
    ] = TRUTH,
    secrets: Annotated[Path, option("--secrets", "DIR", "The passwords, a file a user.")] = Path(
        "deploy/secrets"
    ),
    out: Annotated[Path, option("--out", "DIR", "Where to write <bus>/users.acl.")] = Path("deploy/redis"),
    urls: Annotated[
        Path | None, option("--urls", "DIR", "Write each user's URLs too, as <user>/<bus>.")
    ] = None,
    *,
    make_secrets: Annotated[bool, flag("--make-secrets", "Make the passwords that are missing.")] = False,
    no_default: Annotated[
        bool, flag("--no-default", "Give `default` a password, too: without one, no client can read.")
    ] = False,
) -> None:
    """Write an ACL file for each bus: a user a service, with no more than its part takes."""
    document = read_valid_truth(truth)
    try:
        if no_default:
            close_default_user(secrets)
        # no connection is made, but a wrong URL ends the command before anything is written
        names = document.bus_names() if urls else ()
        buses = [Bus(name, find_bus_url(name, os.environ, document)) for name in names]
        known, made = load_passwords(secrets, user_names(document), make_missing=make_secrets)
        lines = _write_acl_files(document, known, out)
        if urls:
            urls.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_files(build_url_files(urls, known, {bus.name: bus.url for bus in buses}))
            lines += [
                f"{urls}/<user>/{make_folder_name(bus.name)}: as a user of {bus.where}" for bus in buses
            ]
        if made:
            count = "1 new password" if len(made) == 1 else f"{len(made)} new passwords"
            lines.append(f"{count} in {secrets}; keep that folder out of git and of images")
        output.print_lines([*lines, *_NEXT_STEPS])
    except (AclError, SecretError, BusError) as error:
        raise Mistake(str(error)) from None
    except OSError as error:
        raise Mistake(f"{error.filename or out}: {error.strerror}") from None


def _write_acl_files(truth: Truth, known: dict[str, str], out: Path) -> list[str]:
    joining = find_elsewhere(truth.services)
    texts = format_acl_files(truth, known, read_settings(MonitorSettings), joining)
    files = {out / make_folder_name(bus) / ACL_FILE: text for bus, text in texts.items()}
    write_files(files, _READABLE)
    return [f"{path}: {text.count(chr(10))} users" for path, text in files.items()]
