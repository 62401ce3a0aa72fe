"""Prepare the buses of a fleet in containers for other machines, at the host's address MARKETSWARM_PUBLISH.

Its files are in ACCESS_DIR: `tls/` has the certificate, `secrets/join` the password of the user by which
other machines beat, and `bus-tls/tls.pem` the certificate with its key, which the servers read: in containers
a volume of its own, since a program with the key can pose as the fleet. A server listens for other machines
only once there is that file, and every user has a password.
"""

from pathlib import Path
from typing import Final

from bootstrap.database import NAME, READABLE, write_changed
from marketswarm import log as logs
from marketswarm.access.certificate import CertificateError, prepare_certificate
from marketswarm.agent import Code, Exit
from marketswarm.net.addresses import explain_unreachable, parse_address, unmap_address

SERVER_FILE: Final = "bus-tls/tls.pem"
log = logs.get(NAME)


def require_published_address(text: str) -> str:
    """Return the address in its usual form. Raise Exit, code 2, for one that no other machine can reach.

    One of IPv6 may be in brackets, which Compose wants before a port.
    """
    address = parse_address(text[1:-1] if text[:1] + text[-1:] == "[]" else text)
    if address is None:
        raise Exit(Code.CONFIGURATION, f"MARKETSWARM_PUBLISH: {text!r} is not an address")
    address = unmap_address(address)
    if problem := explain_unreachable(address, str(address)):
        raise Exit(Code.CONFIGURATION, f"MARKETSWARM_PUBLISH: {problem}")
    return str(address)


def publish_certificate(folder: Path, address: str) -> None:
    """Write the certificate for the servers, for this address; make it if needed. Raises Exit, or OSError."""
    try:
        found = prepare_certificate(folder, address)
    except CertificateError as error:
        raise Exit(Code.CONFIGURATION, f"MARKETSWARM_PUBLISH: {error}") from None
    (folder / SERVER_FILE).parent.mkdir(exist_ok=True)  # in containers there already, as a volume
    write_changed({folder / SERVER_FILE: found.file.read_text("ascii")}, READABLE)
    log.info("access.published", address=address, fingerprint=found.fingerprint)
