"""An authority of our own and the certificates that it gives to a server."""

import ssl
import subprocess
from pathlib import Path

from support.rig.process import HOST

# what is asked for by who takes RFC 5280 at its word, as Python does since 3.13
_IN_FULL = """
basicConstraints = CA:FALSE
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
keyUsage = digitalSignature
"""
_MAY_SIGN = ("-addext", "keyUsage=critical,digitalSignature,keyCertSign")
_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


class Authority:
    """Makes certificates in a folder of its own; `ca` is the file that those who trust it need."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.ca, self._key = folder / "ca.pem", folder / "ca.key"
        self._self_signed(self.ca, self._key, "an authority")

    def certificate(
        self, name: str, *, address: str = HOST, days: int = 2, bare: bool = False
    ) -> tuple[Path, Path]:
        """A certificate for an address, and its key; negative days are over.

        A `bare` one says of itself no more than its address, as many a home-made one.
        """
        cert, key, request, more = (self.folder / f"{name}.{end}" for end in ("pem", "key", "csr", "ext"))
        more.write_text(f"subjectAltName=IP:{address}{'' if bare else _IN_FULL}\n", encoding="ascii")
        self._openssl("req", *_KEY, "-keyout", key, "-out", request, "-subj", f"/CN={name}")
        by = ("-CA", self.ca, "-CAkey", self._key, "-CAcreateserial")
        self._openssl("x509", "-req", "-in", request, *by, "-days", days, "-extfile", more, "-out", cert)
        return cert, key

    def self_signed(self, name: str) -> tuple[Path, Path]:
        """A certificate that nobody but its owner vouches for, and its key."""
        cert, key = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        self._self_signed(cert, key, name, "-addext", f"subjectAltName=IP:{HOST}")
        return cert, key

    def untrusted(self, name: str) -> ssl.SSLContext:
        """Return the TLS context of a server with such a certificate; clients trust it by `<name>.pem`."""
        cert, key = self.self_signed(name)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(cert, key)
        return context

    def _self_signed(self, cert: Path, key: Path, name: str, *more: str) -> None:
        about = ("-days", 2, "-subj", f"/CN={name}", *_MAY_SIGN, *more)
        self._openssl("req", "-x509", *_KEY, "-keyout", key, "-out", cert, *about)

    def _openssl(self, *words: object) -> None:
        subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True, timeout=20)
