"""What PostgreSQL is to store of a password, held against the exchange that RFC 7677 shows."""

import base64
import hashlib
import hmac
import re

from bootstrap.database import format_verifier

# RFC 7677, section 3: the password, the salt, and what passes between both ends
PASSWORD, SALT = "pencil", "W22ZaJ0SNY7soEsUEjb6gQ=="
MESSAGE = (
    b"n=user,r=rOprNGfwEbeRWgbNEkqO,"
    b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,"
    b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
)
PROOF = "dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
SIGNATURE = "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="


def test_the_server_that_stores_it_takes_the_proof_of_the_rfc_and_gives_its_signature():
    found = re.fullmatch(
        r"SCRAM-SHA-256\$4096:(.+)\$(.+):(.+)", format_verifier(PASSWORD, base64.b64decode(SALT))
    )
    salt, stored_key, server_key = (base64.b64decode(each) for each in found.groups())
    assert base64.b64encode(salt).decode() == SALT
    signature = hmac.digest(stored_key, MESSAGE, "sha256")
    proof = base64.b64decode(PROOF)
    client_key = bytes(a ^ b for a, b in zip(proof, signature, strict=True))
    assert hashlib.sha256(client_key).digest() == stored_key
    assert base64.b64encode(hmac.digest(server_key, MESSAGE, "sha256")).decode() == SIGNATURE


def test_the_same_password_has_the_same_verifier_and_another_one_another_salt():
    one, again, other = (format_verifier(each) for each in ("a" * 32, "a" * 32, "b" * 32))
    assert one == again
    assert one.split("$")[1] != other.split("$")[1]
