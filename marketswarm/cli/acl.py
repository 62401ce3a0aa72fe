# ruff: noqa: PLC0415 - a command loads what it needs when it runs
"""`marketswarm acl`: who may do what on each bus, as ACL files for its server."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from marketswarm.truth import Truth

_READABLE = 0o644  # a server in a container is another user; what it reads there are hashes
_OWNERS = 0o600


def acl(
    truth: Annotated[
        Path, typer.Option("--truth", envvar="TRUTH_PATH", metavar="FILE", help="Whose services these are.")
    ] = Path("truth.json"),
    secrets: Annotated[
        Path, typer.Option("--secrets", metavar="DIR", help="The passwords, a file a user.")
    ] = Path("deploy/secrets"),
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where to write <bus>/users.acl.")] = Path(
        "deploy/redis"
    ),
    urls: Annotated[
        Path | None,
        typer.Option("--urls", metavar="DIR", help="Write each user's URLs too, as <user>/<bus>."),
    ] = None,
    *,
    make_secrets: Annotated[
        bool, typer.Option("--make-secrets", help="Make the passwords that are missing.")
    ] = False,
    no_default: Annotated[
        bool, typer.Option("--no-default", help="Give `default` a password, too: nobody looks without one.")
    ] = False,
) -> None:
    """Write an ACL file for each bus: a user a service, with no more than its part takes."""
    from marketswarm.acl import AclError
    from marketswarm.bus import BusError
    from marketswarm.cli import paper
    from marketswarm.cli.document import accepted
    from marketswarm.exit import Code, Exit
    from marketswarm.passwords import SecretError, close_default

    document = accepted(truth)
    try:
        if no_default:
            close_default(secrets)
        for line in _written(document, secrets, (out, urls), make=make_secrets):
            paper.line(line)
    except (AclError, SecretError, BusError) as error:
        raise Exit(Code.CONFIGURATION, str(error)) from None
    except OSError as error:
        raise Exit(Code.CONFIGURATION, f"{error.filename or out}: {error.strerror}") from None


def _written(truth: "Truth", secrets: Path, to: tuple[Path, Path | None], *, make: bool) -> list[str]:
    """Writes them to folders for servers and for agents; what was done, in lines for a person."""
    from marketswarm.acl import names
    from marketswarm.bus import Bus, find_url
    from marketswarm.passwords import FILE, acl_texts, folder_of, passwords, url_files, write_all
    from marketswarm.settings import VigilSettings, read

    (out, urls), settings = to, read(VigilSettings)
    # no connection is made; but what is no URL of a bus ends it here
    buses = [Bus(bus, find_url(bus, os.environ, truth)) for bus in truth.bus_names()] if urls else []
    known, made = passwords(secrets, names(truth), make=make)
    texts = acl_texts(
        truth,
        known,
        truth_key=settings.truth_redis_key,
        alert_channel=settings.alert_channel or "healer:alerts",
    )
    files = {out / folder_of(bus) / FILE: text for bus, text in texts.items()}
    write_all(files, _READABLE)
    lines = [f"{path}: {text.count(chr(10))} users" for path, text in files.items()]
    if urls:
        urls.mkdir(mode=0o700, parents=True, exist_ok=True)
        mine = url_files(urls, known, {bus.name: bus.url for bus in buses})
        write_all(dict(pair for of_user in mine.values() for pair in of_user.values()), _OWNERS)
        lines += [f"{urls}/<user>/{folder_of(bus.name)}: as a user of {bus.where}" for bus in buses]
    if made:
        many = "1 new password" if len(made) == 1 else f"{len(made)} new passwords"
        lines.append(f"{many} in {secrets}; keep that folder out of git and of images")
    return [
        *lines,
        "Next: a server reads its file at its start (--aclfile), or when the operator says ACL LOAD.",
        "Each agent gets a URL of its own, redis://<service>:<password>@<host>:<port>, in the file that",
        "<BUS>_URL_FILE names (--urls DIR writes them); bootstrap and the marketswarm command get those of",
        "bootstrap and operator.",
    ]
