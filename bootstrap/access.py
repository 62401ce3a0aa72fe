"""Write users, passwords and URLs for a fleet in containers, and reload the users of running servers.

`python -m bootstrap.access` runs once before the buses start. All its files are in the folder ACCESS_DIR:
`secrets/<user>` holds a password, made once; `urls/<user>/<bus>` the URL that a user connects with;
`acl/<bus>/users.acl` the users that a server loads at its start. For a truth with an archive there are the
files of its PostgreSQL, too (`bootstrap.database`). Where other machines reach the buses, at the host's
address MARKETSWARM_PUBLISH, `tls/` has the certificate, and `secrets/join` the password of the user by which
they beat; a server listens for them only once there is `bus-tls/tls.pem`, and every user has a password. No
password is logged. The rights of each user are
decided by `marketswarm.access`, and the truth is checked and seeded by `bootstrap`.
"""

import asyncio
import hashlib
import os
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from bootstrap.database import NAME, READABLE, write_changed, write_database_files
from marketswarm import log as logs
from marketswarm.access import passwords
from marketswarm.access.certificate import CertificateError, prepare_certificate
from marketswarm.access.users import OPERATOR, AclError, user_names
from marketswarm.agent import Code, create_bus, run
from marketswarm.agent.service_config import load_with_sections
from marketswarm.agent.service_modules import find_elsewhere
from marketswarm.bus import Bus, BusError, find_bus_url
from marketswarm.exit import Mistake
from marketswarm.net.addresses import explain_unreachable, parse_address, unmap_address
from marketswarm.settings import read_settings
from marketswarm.settings.programs import AccessSettings
from marketswarm.truth import MARKET, SYSTEM, Truth, TruthError, parse_truth

BROUGHT: Final = ("notifier", "board", "medic")
"""What compose.yaml starts with the healer. Each has a folder of URLs, which is empty if the truth does not
name it: the engine refuses to mount a missing folder, and starts nothing then."""
SERVER_FILE: Final = "bus-tls/tls.pem"
"""The certificate with its key, which the servers read: in containers a volume of its own, since a program
with the key can pose as the fleet."""
_EMPTY_TRUTH: Final = b'{"services":{}}'
_DIGEST_FILE: Final = "renewed"
"""The file beside an ACL file with the SHA-256 of the text that the server loaded last. ACL LOAD closes all
connections, so it is sent once for each change."""
_RETRY_WITHIN_SEC: Final = 10.0
_RETRY_EVERY_SEC: Final = 0.3
_NOT_RUNNING: Final = ("refused", "dns")  # no server, or no container of that name

log = logs.get(NAME)


async def main() -> int:
    """Write the users of the truth at TRUTH_PATH and reload them on running servers; return the exit code.

    Raises Exit, code 2, when the settings, the truth's file, the passwords or the folder can't be used.
    """
    settings = read_settings(AccessSettings)
    logs.configure(NAME, settings)
    truth = _load_truth(settings.truth_path, settings.access_dir)
    if truth is None:
        return Code.DONE
    try:
        await _write_users(truth, settings)
    except (AclError, passwords.SecretError) as error:
        raise Mistake(str(error)) from None
    except OSError as error:
        where = error.filename or settings.access_dir
        raise Mistake(f"ACCESS_DIR: {where}: {error.strerror}") from None
    return Code.DONE


def _load_truth(path: Path, folder: Path) -> Truth | None:
    """Load the truth at `path`. If it has errors, return an empty truth, or None if users exist already.

    Bootstrap reports the errors of a truth, and needs running buses for that. So the first time the users are
    written without services, for bootstrap and the operator alone. Raises Exit, code 2, when the file can't
    be read.
    """
    try:
        return load_with_sections(path.read_bytes()).truth
    except OSError as error:
        raise Mistake(f"TRUTH_PATH: {path} can't be read ({error.strerror})") from None
    except TruthError as error:
        log.warning(
            "access.truth_unusable", path=str(path), mistakes=len(error.problems), next="see bootstrap"
        )
    empty = parse_truth(_EMPTY_TRUTH).truth
    users_exist = all(_acl_path(folder, bus).exists() for bus in empty.bus_names())
    return None if users_exist else empty


async def _write_users(truth: Truth, settings: AccessSettings) -> None:
    """Write what changed, and reload the servers. Raises AclError, SecretError, OSError or Exit."""
    folder = settings.access_dir
    published = settings.marketswarm_publish and require_published_address(settings.marketswarm_publish)
    if published:
        passwords.admit_other_machines(folder / "secrets")
    if settings.default_user == "off":
        passwords.close_default_user(folder / "secrets")
    known, made = passwords.load_passwords(folder / "secrets", user_names(truth), make_missing=True)
    texts = passwords.format_acl_files(truth, known, settings, find_elsewhere(truth.services))
    urls = _find_urls(truth)
    write_changed(passwords.build_url_files(folder / "urls", known, urls))
    for name in BROUGHT:
        (folder / "urls" / name).mkdir(exist_ok=True)
    write_database_files(folder, truth)
    write_changed({_acl_path(folder, bus): text for bus, text in texts.items()}, READABLE)
    if published:  # after the users: a server that finds the certificate must find them, too
        publish_certificate(folder, published)
    log.info("access.written", users=len(known), new_passwords=made, buses=list(urls))
    operators = {bus: passwords.replace_url_user(url, OPERATOR, known[OPERATOR]) for bus, url in urls.items()}
    await asyncio.gather(*(reload_users(bus, url, _acl_path(folder, bus)) for bus, url in operators.items()))


def require_published_address(text: str) -> str:
    """Return the address in its usual form. Raise Exit, code 2, for one that no other machine can reach.

    One of IPv6 may be in brackets, which Compose wants before a port.
    """
    address = parse_address(text[1:-1] if text[:1] + text[-1:] == "[]" else text)
    if address is None:
        raise Mistake(f"MARKETSWARM_PUBLISH: {text!r} is not an address")
    address = unmap_address(address)
    if problem := explain_unreachable(address, str(address)):
        raise Mistake(f"MARKETSWARM_PUBLISH: {problem}")
    return str(address)


def publish_certificate(folder: Path, address: str) -> None:
    """Write the certificate for the servers, for this address; make it if needed. Raises Exit, or OSError."""
    try:
        found = prepare_certificate(folder, address)
    except CertificateError as error:
        raise Mistake(f"MARKETSWARM_PUBLISH: {error}") from None
    (folder / SERVER_FILE).parent.mkdir(exist_ok=True)  # in containers there already, as a volume
    write_changed({folder / SERVER_FILE: found.file.read_text("ascii")}, READABLE)
    log.info("access.published", address=address, fingerprint=found.fingerprint)


def _find_urls(truth: Truth) -> dict[str, str]:
    """Return the URLs of the two buses by name, without those that contain a user or are a Unix socket."""
    found = {}
    for bus in (SYSTEM, MARKET):
        try:
            url = find_bus_url(bus, os.environ, truth)
        except BusError as error:  # the program that needs the bus reports it
            log.warning("access.bus_unknown", bus=bus, why=error.detail)
            continue
        if urlsplit(url).scheme != "unix" and "@" not in urlsplit(url).netloc:
            found[bus] = url
    return found


def _acl_path(folder: Path, bus: str) -> Path:
    return folder / "acl" / passwords.make_folder_name(bus) / passwords.ACL_FILE


async def reload_users(name: str, url: str, acl_file: Path) -> None:
    """Make a server reload its ACL file if the file changed since the last reload.

    `url` has the operator's password. Raises Exit, code 2, if the server runs with other passwords.
    """
    digest_file = acl_file.with_name(_DIGEST_FILE)
    digest = hashlib.sha256(_read_bytes(acl_file)).hexdigest().encode()
    if _read_bytes(digest_file) == digest:
        return
    bus = create_bus(name, url)
    try:
        if await _load_users(bus):
            digest_file.write_bytes(digest)
    finally:
        await bus.aclose()


def _read_bytes(path: Path) -> bytes:
    return path.read_bytes() if path.exists() else b""


async def _load_users(bus: Bus) -> bool:
    """Send ACL LOAD until it succeeds, for 10 s at most. Return True if the server has loaded the users.

    Also return True if the server does not run, because it loads the users when it starts. Raise Exit, code
    2, if it refuses the password.
    """
    clock = asyncio.get_running_loop().time
    deadline = clock() + _RETRY_WITHIN_SEC
    while True:
        try:
            await bus.ask(bus.client.acl_load())
        except BusError as error:
            if error.reason in _NOT_RUNNING:
                return True
            if error.reason == "auth":
                why = f"{bus.name} runs with other passwords than those in ACCESS_DIR"
                raise Mistake(f"{why}: restart it, then the agents") from None
            if clock() >= deadline:
                log.warning("access.not_renewed", bus=bus.name, reason=error.reason, detail=error.detail)
                return False
        else:
            log.info("access.renewed", bus=bus.name)
            return True
        await asyncio.sleep(_RETRY_EVERY_SEC)


if __name__ == "__main__":
    run(main)
