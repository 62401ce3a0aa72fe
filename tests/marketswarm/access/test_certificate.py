"""Certificates for other machines, made and checked by the real openssl."""

import ssl
import stat
import subprocess

import pytest

from marketswarm.access import certificate
from marketswarm.access.certificate import CertificateError, prepare_certificate, use_certificate
from support.rig.certificates import Authority

NAME = "192.0.2.10"
pytestmark = [pytest.mark.live, pytest.mark.needs("openssl")]


def openssl(*words: object) -> str:
    return subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True, text=True).stdout


def test_one_of_our_own_bears_the_strictest_look_and_has_the_address(tmp_path):
    found = prepare_certificate(tmp_path, NAME)
    openssl("verify", "-x509_strict", "-CAfile", found.shared, "-verify_ip", NAME, found.shared)
    openssl("verify", "-x509_strict", "-CAfile", found.shared, "-verify_ip", "127.0.0.1", found.shared)
    shown = openssl("x509", "-in", found.shared, "-noout", "-fingerprint", "-sha256")
    assert shown.strip().partition("=")[2].replace(":", "").lower() == found.fingerprint
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(found.file)
    assert "KEY" not in found.shared.read_text()
    assert stat.S_IMODE(found.file.stat().st_mode) == 0o600
    assert {path.name for path in (tmp_path / "tls").iterdir()} == {"self-made.pem", "certificate.pem"}


def test_nobody_vouches_for_others_by_one_of_our_own(tmp_path):
    """With `pathlen:0` no authority that its key has signed is one."""
    found = prepare_certificate(tmp_path, NAME)
    shown = openssl("x509", "-in", found.shared, "-noout", "-ext", "basicConstraints")
    assert "CA:TRUE, pathlen:0" in shown


def test_it_is_kept_over_a_start_and_made_anew_for_another_name_or_near_its_end(tmp_path, monkeypatch):
    first = prepare_certificate(tmp_path, NAME)
    assert prepare_certificate(tmp_path, NAME) == first
    second = prepare_certificate(tmp_path, "fleet.example")
    assert second.fingerprint != first.fingerprint
    assert "fleet.example does match" in openssl(
        "x509", "-in", second.shared, "-noout", "-checkhost", "fleet.example"
    )
    monkeypatch.setattr(certificate, "_DAYS", 1)
    (tmp_path / "tls/self-made.pem").unlink()
    ending = prepare_certificate(tmp_path, NAME)
    assert prepare_certificate(tmp_path, NAME) != ending


def test_a_given_one_is_copied_with_its_key_and_read_anew(tmp_path):
    papers = Authority(tmp_path / "papers")
    for name in ("first", "renewed"):
        cert, key = papers.certificate(name, address=NAME)
        found = use_certificate(tmp_path, NAME, cert, key)
        assert found.shared.read_text().strip() in cert.read_text()
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(found.file)
        assert stat.S_IMODE(found.file.stat().st_mode) == 0o600


def test_one_that_does_not_fit_is_refused_and_not_kept(tmp_path):
    papers = Authority(tmp_path / "papers")
    (cert, key), (_, other) = (papers.certificate(name, address=NAME) for name in ("one", "other"))
    locked = tmp_path / "locked.key"
    openssl("pkey", "-in", key, "-aes256", "-passout", "pass:secret", "-out", locked)
    (tmp_path / "binary").write_bytes(b"\xff" * 100)
    for files, why in (
        ((cert, other), "are not a certificate and its key"),
        ((cert, locked), "has a password"),
        ((cert, tmp_path / "binary"), "is not in the PEM form"),
    ):
        with pytest.raises(CertificateError, match=why):
            use_certificate(tmp_path, NAME, *files)
    with pytest.raises(CertificateError, match=r"is not for 192\.0\.2\.11"):
        use_certificate(tmp_path, "192.0.2.11", cert, key)
    assert not (tmp_path / "tls/given.pem").exists()


def test_without_openssl_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CertificateError, match="apt install openssl"):
        prepare_certificate(tmp_path, NAME)
