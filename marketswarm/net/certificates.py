"""Read certificates and their fingerprints: SHA-256 of the whole certificate, as `openssl x509` shows it.

Files hold certificates in the PEM form, the server's own one first, possibly with its key beside it.
"""

import hashlib
import hmac
import re
import socket
import ssl
from typing import Final

_CERTIFICATE: Final = re.compile(r"-----BEGIN CERTIFICATE-----\n[A-Za-z0-9+/=\s]+-----END CERTIFICATE-----")
_FINGERPRINT: Final = re.compile(r"[0-9a-f]{64}")


class FingerprintError(ValueError):
    """A text is not a SHA-256 fingerprint."""


def extract_certificate(pem: str) -> bytes | None:
    """Return the first certificate of a PEM text in the DER form; None if the text has none."""
    found = _CERTIFICATE.search(pem.replace("\r\n", "\n"))
    try:
        return ssl.PEM_cert_to_DER_cert(found[0]) if found else None
    except ValueError:
        return None


def compute_fingerprint(der: bytes) -> str:
    """Return the fingerprint of a certificate in the DER form: 64 hexadecimal digits in lower case."""
    return hashlib.sha256(der).hexdigest()


def parse_fingerprint(text: str) -> str:
    """Return a fingerprint in the form of `compute_fingerprint`. Raises FingerprintError.

    It may be written in upper case, with colons, and after `sha256:` or the words that openssl prints.
    """
    digits = re.sub(r"^(sha-?256)?( fingerprint)?[:=]?", "", text.strip().lower()).replace(":", "")
    if not _FINGERPRINT.fullmatch(digits):
        raise FingerprintError("a fingerprint is the SHA-256 of the certificate: 64 hexadecimal digits")
    return digits


def has_fingerprint(der: bytes, fingerprint: str) -> bool:
    return hmac.compare_digest(compute_fingerprint(der), fingerprint)


def fetch_certificate(host: str, port: int, within_sec: float, *, verified: bool) -> bytes:
    """Connect to a server that speaks TLS, and return its certificate in the DER form; nothing is sent to it.

    With `verified`, raise ssl.SSLCertVerificationError unless an authority that this machine knows vouches
    for it under this name. Raises OSError for all other failures too, `ssl.SSLError` if the server
    speaks no TLS.
    """
    context = ssl.create_default_context()
    if not verified:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with (
        socket.create_connection((host, port), timeout=within_sec) as plain,
        context.wrap_socket(plain, server_hostname=host) as connection,
    ):
        return connection.getpeercert(binary_form=True) or b""
