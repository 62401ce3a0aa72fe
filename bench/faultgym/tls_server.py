"""A TLS server on loopback, whose certificate can be replaced by one that has expired."""

import contextlib
import shutil
import socket
import ssl
import subprocess
from pathlib import Path
from typing import Final

from bench.background import Background

HOST: Final = "127.0.0.1"
WITHIN_SEC: Final = 1.0
"""How long a handshake may take, and how long the end of the server."""
DAYS: Final = {"valid": 2, "expired": -1}
"""For how many days from now on the certificates are in force."""
_KEY: Final = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
_OF_SERVER: Final = f"""\
subjectAltName = IP:{HOST}
basicConstraints = CA:FALSE
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
keyUsage = digitalSignature
"""


def find_missing() -> str:
    return "" if shutil.which("openssl") else "openssl not installed: apt-get install openssl"


class TlsServer(Background):
    """Make TLS handshakes while a `with` block runs; `folder` is for its keys and certificates.

    `ca` is the file with the authority to trust.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__()
        folder.mkdir()
        self.ca, self._folder = folder / "ca.pem", folder
        self._make_certificates()
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.use("valid")
        self._listener = socket.create_server((HOST, 0))
        self._listener.settimeout(WITHIN_SEC)
        self.port: int = self._listener.getsockname()[1]

    def use(self, name: str) -> None:
        """Show one of the certificates to each new client."""
        self._context.load_cert_chain(self._folder / f"{name}.pem", self._folder / f"{name}.key")

    def _run(self) -> None:
        with self._listener:
            while not self._is_over.is_set():
                with contextlib.suppress(OSError):  # no client, or one that does not trust us
                    client, _ = self._listener.accept()
                    client.settimeout(WITHIN_SEC)
                    with self._context.wrap_socket(client, server_side=True) as connection:
                        connection.recv(1)

    def _make_certificates(self) -> None:
        authority = self._folder / "ca.key"
        may_sign = ("-addext", "keyUsage=critical,digitalSignature,keyCertSign")
        about = ("-subj", "/CN=an authority", "-days", 2, *may_sign)
        _run_openssl("req", "-x509", *_KEY, "-keyout", authority, "-out", self.ca, *about)
        (self._folder / "extensions").write_text(_OF_SERVER, "ascii")
        for name, days in DAYS.items():
            request, own = self._folder / f"{name}.csr", self._folder / name
            key, certificate = own.with_suffix(".key"), own.with_suffix(".pem")
            _run_openssl("req", *_KEY, "-keyout", key, "-out", request, "-subj", f"/CN={name}")
            by = ("-CA", self.ca, "-CAkey", authority, "-CAcreateserial")
            more = ("-days", days, "-extfile", self._folder / "extensions")
            _run_openssl("x509", "-req", "-in", request, *by, *more, "-out", certificate)


def _run_openssl(*words: object) -> None:
    subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True)
