import ssl

import pytest

from marketswarm.net.certificates import (
    FingerprintError,
    compute_fingerprint,
    extract_certificate,
    has_fingerprint,
    parse_fingerprint,
)

DER = b"what stands for a certificate"
DIGITS = compute_fingerprint(DER)


@pytest.mark.parametrize(
    "text",
    [
        DIGITS,
        f" {DIGITS.upper()}\n",
        ":".join(DIGITS[at : at + 2] for at in range(0, 64, 2)).upper(),
        f"sha256 Fingerprint={DIGITS}",
        f"SHA-256:{DIGITS}",
    ],
)
def test_a_fingerprint_may_be_written_as_other_programs_show_it(text):
    assert has_fingerprint(DER, parse_fingerprint(text))


@pytest.mark.parametrize("text", ["", DIGITS[:-1], DIGITS + "0", DIGITS[:40], "g" * 64, "\uff11" * 64])
def test_anything_else_is_no_fingerprint(text):
    with pytest.raises(FingerprintError):
        parse_fingerprint(text)


def test_another_certificate_has_another_fingerprint():
    assert not has_fingerprint(DER + b".", DIGITS)


def test_the_first_certificate_of_a_text_is_found_among_keys_and_others():
    pem, other = ssl.DER_cert_to_PEM_cert(DER), ssl.DER_cert_to_PEM_cert(b"an authority")
    key = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"
    assert extract_certificate(key + pem + other) == DER
    assert extract_certificate(pem.replace("\n", "\r\n")) == DER
    assert extract_certificate(key) is None
