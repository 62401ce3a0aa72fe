"""Keep the certificate with which the servers of a fleet listen for other machines.

The folder `tls` beside the passwords has it: `self-made.pem` or `given.pem` holds the certificate and its
key, for the fleet alone, and `certificate.pem` the certificate without the key, to be given to others. A
certificate of our own is made by the program `openssl`, and kept until it ends or the address is another one.
"""

import shutil
import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from marketswarm.access.passwords import write_files
from marketswarm.net.addresses import parse_address
from marketswarm.net.certificates import compute_fingerprint, extract_certificate
from marketswarm.settings import MAX_SECRET_FILE_BYTES

FOLDER: Final = "tls"
_SELF_MADE: Final = "self-made.pem"
_GIVEN: Final = "given.pem"
_SHARED: Final = "certificate.pem"
_DAYS: Final = 3650
_RENEW_BEFORE_SEC: Final = 30 * 86_400
_OPENSSL_WITHIN_SEC: Final = 60.0
# all that RFC 5280 asks of a certificate that vouches for itself; Python is strict about it since 3.13
_CONFIG: Final = """\
[req]
distinguished_name = subject
x509_extensions = extensions
prompt = no
[subject]
CN = marketswarm
[extensions]
basicConstraints = critical,CA:TRUE,pathlen:0
keyUsage = critical,digitalSignature,keyCertSign
extendedKeyUsage = serverAuth
subjectKeyIdentifier = hash
subjectAltName = {names}
"""


class CertificateError(Exception):
    """There is no usable certificate; the message says what to change, and has no part of a key."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate that servers use.

    `file` holds it with its key, `shared` without it; `fingerprint` is its SHA-256 in hexadecimal digits.
    """

    file: Path
    shared: Path
    fingerprint: str


def prepare_certificate(data: Path, name: str) -> Certificate:
    """Return a certificate of our own for `name`, an address or a host name; make it if it is missing.

    It is also made again 30 days before its end, and for another name: its fingerprint is another one then.
    Raises CertificateError, and OSError if the folder can't be written.
    """
    folder = data / FOLDER
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    file = folder / _SELF_MADE
    if not (file.exists() and _is_usable(file, name)):
        write_files({file: _make(folder, name)})
    return _share(file)


def use_certificate(data: Path, name: str, certificate: Path, key: Path) -> Certificate:
    """Copy a given certificate and its key into the data folder, and return it.

    A copy that was given before is overwritten, and deleted if this one is refused. Raises CertificateError
    if they don't fit each other, the key has a password, or the certificate is not for `name`; OSError if a
    file can't be read or written.
    """
    folder = data / FOLDER
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    texts = [_read(path) for path in (certificate, key)]
    file = folder / _GIVEN
    write_files({file: "\n".join(texts)})
    try:
        _require_pair(file, certificate, key)
        _require_name(file, certificate, name)
    except CertificateError:
        file.unlink()
        raise
    return _share(file)


def _read(path: Path) -> str:
    with path.open("rb") as file:
        raw = file.read(MAX_SECRET_FILE_BYTES + 1)
    if len(raw) > MAX_SECRET_FILE_BYTES or not raw.isascii():
        raise CertificateError(f"{path} is not in the PEM form")
    return raw.decode("ascii")


def _require_pair(file: Path, certificate: Path, key: Path) -> None:
    def refuse_password() -> str:
        raise CertificateError(f"--tls-key: {key} has a password, which the servers can't ask for")

    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(file, password=refuse_password)
    except (ssl.SSLError, ValueError):
        raise CertificateError(
            f"--tls-cert, --tls-key: {certificate} and {key} are not a certificate and its key, both as PEM"
        ) from None


def _require_name(file: Path, certificate: Path, name: str) -> None:
    if not _is_for(file, name):
        raise CertificateError(
            f"--tls-cert: {certificate} is not for {name}: --listen takes the name that it is for, "
            "where that name leads to an address of this machine"
        )


def _share(file: Path) -> Certificate:
    """Write the file without the key, and return both with the fingerprint."""
    der = extract_certificate(file.read_text("ascii"))
    if der is None:
        raise CertificateError(f"{file} has no certificate: remove it")
    shared = file.with_name(_SHARED)
    write_files({shared: ssl.DER_cert_to_PEM_cert(der)})
    return Certificate(file, shared, compute_fingerprint(der))


def _is_usable(file: Path, name: str) -> bool:
    """Return True if our certificate holds for a month yet, is for this name, and has its key."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(file, password="")
    except (ssl.SSLError, OSError):
        return False
    ended = _openssl("x509", "-in", file, "-noout", "-checkend", _RENEW_BEFORE_SEC).returncode
    return ended == 0 and _is_for(file, name)


def _is_for(file: Path, name: str) -> bool:
    option = "-checkip" if parse_address(name) else "-checkhost"
    said = _openssl("x509", "-in", file, "-noout", option, name).stdout
    return "does match" in said


def _make(folder: Path, name: str) -> str:
    """Make a key and a certificate with openssl; return both as PEM. Its draft files are deleted again."""
    kind = "IP" if parse_address(name) else "DNS"
    config, key = folder / "openssl.cnf", folder / "draft.key"
    names = ",".join(dict.fromkeys((f"{kind}:{name}", "IP:127.0.0.1", "DNS:localhost")))
    # the second is for us alone, before openssl writes the key into it
    write_files({config: _CONFIG.format(names=names), key: ""})
    try:
        words = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-sha256")
        done = _openssl("req", "-x509", *words, "-days", _DAYS, "-config", config, "-keyout", key)
        if done.returncode != 0 or extract_certificate(done.stdout) is None:
            lines = done.stderr.strip().splitlines()
            raise CertificateError(f"openssl made no certificate: {lines[-1] if lines else done.returncode}")
        return done.stdout + key.read_text("ascii")
    finally:
        key.unlink(missing_ok=True)
        config.unlink()


def _openssl(*words: object) -> subprocess.CompletedProcess[str]:
    program = shutil.which("openssl")
    if program is None:
        raise CertificateError("--listen needs the program openssl (for instance: apt install openssl)")
    try:
        return subprocess.run(  # noqa: S603 - our own words, paths and a checked name
            [program, *map(str, words)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_OPENSSL_WITHIN_SEC,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CertificateError(f"openssl could not be run ({type(error).__name__})") from None
