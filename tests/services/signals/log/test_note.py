"""Notes are those of C2SP; a line that is not right is refused, and a private key is in no message."""

import base64

import pytest

from services.signals.log.checkpoint import Checkpoint, parse_checkpoint
from services.signals.log.note import (
    MAX_SIGNATURES,
    NoteError,
    PublicKey,
    SignatureKind,
    make_key,
    parse_note,
    parse_private_key,
    parse_public_key,
    verify_note,
)

# the published example of the Go library that the form comes from
PETER = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
PETER_NOTE = """If you think cryptography is the answer to your problem,
then you don't know what your problem is.

\N{EM DASH} PeterNeumann \
x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=
"""
BODY = Checkpoint("log.example/one", 3, bytes(32)).format()


def test_a_published_note_is_verified_by_its_published_key():
    key = parse_public_key(PETER)
    assert verify_note(parse_note(PETER_NOTE.encode()), key) == 0
    assert str(key) == PETER


def test_a_published_note_that_was_changed_is_refused():
    with pytest.raises(NoteError, match="PeterNeumann that is false"):
        verify_note(parse_note(PETER_NOTE.replace("don't", "do").encode()), parse_public_key(PETER))


@pytest.mark.parametrize(
    ("kind", "found"), [(SignatureKind.ED25519, 0), (SignatureKind.COSIGNATURE, 1_700_000_000)]
)
def test_a_key_verifies_what_it_signed_and_says_when(kind, found):
    key = make_key("log.example/one", kind)
    note = parse_note(BODY + b"\n" + key.sign(BODY, 1_700_000_000).encode())
    assert verify_note(note, key.public) == found
    assert verify_note(note, make_key("log.example/one", kind).public) is None


def test_a_cosignature_says_its_time_and_another_time_is_false():
    key = make_key("w", SignatureKind.COSIGNATURE)
    line = key.sign(BODY, 1_700_000_000)
    signed = parse_note(BODY + b"\n" + line.encode()).signatures[0].signed
    assert int.from_bytes(signed[:8]) == 1_700_000_000
    later = make_key("w", SignatureKind.COSIGNATURE).sign(BODY, 5)
    assert line != later
    changed = base64.b64encode(key.public.ident + (1_700_000_001).to_bytes(8) + signed[8:]).decode()
    with pytest.raises(NoteError, match="false"):
        verify_note(parse_note(BODY + f"\n\N{EM DASH} w {changed}\n".encode()), key.public)


def test_keys_are_read_back_and_say_nothing_of_their_secret():
    key = make_key("log.example/one", SignatureKind.ED25519)
    again = parse_private_key(key.export() + "\n")
    assert again.public == key.public == parse_public_key(str(key.public))
    assert key.export().split("+", 4)[4] not in repr(key)


@pytest.mark.parametrize(
    "text",
    ["", "PRIVATE+KEY+a+00000000+QUFB", "a+b", "PRIVATE+KEY+a+00000000+" + "A" * 44, "PRIVATE+KEY+a b+c+d"],
)
def test_what_is_no_private_key_is_refused_without_being_shown(text):
    with pytest.raises(NoteError) as refused:
        parse_private_key(text)
    assert "QUFB" not in str(refused.value)
    assert "AAAA" not in str(refused.value)


def test_a_key_of_another_kind_is_not_taken_for_one_of_ours():
    unknown = PublicKey("w", SignatureKind.ML_DSA_44_COSIGNATURE, bytes(32))
    with pytest.raises(NoteError, match="not supported: 0x06"):
        parse_public_key(str(unknown))


@pytest.mark.parametrize("name", ["", "a b", "a+b", "a\u2003b", "x" * 201, "a\u202eb"])
def test_a_key_has_a_name_that_a_line_can_have(name):
    with pytest.raises(NoteError, match="name"):
        make_key(name, SignatureKind.ED25519)


@pytest.mark.parametrize(
    "note",
    [
        b"",
        b"text\n",
        b"text\n\n",
        b"text\n\n\xe2\x80\x94 name AAAA\n",  # no room for a signature
        b"text\n\nname AAAAAAAA\n",
        b"text\n\n\xe2\x80\x94 name AAAAAAAA",
        b"text\n\n\xe2\x80\x94 name AAAAAAB=\n",  # bits that no byte has
        b"text\n\n\xe2\x80\x94 name AAAA\x0bAAAA\n",
        b"text\r\n\n\xe2\x80\x94 name AAAAAAAA\n",
        b"\xff\n\n\xe2\x80\x94 name AAAAAAAA\n",
        b"text\n\n" + b"\xe2\x80\x94 name AAAAAAAA\n" * (MAX_SIGNATURES + 1),
        b"x" * 1_000_001,
    ],
)
def test_what_is_no_note_is_refused(note):
    with pytest.raises(NoteError):
        parse_note(note)


def test_the_text_of_a_note_may_have_empty_lines():
    note = parse_note(b"a\n\nb\n\n\xe2\x80\x94 name AAAAAAAA\n")
    assert note.text == b"a\n\nb\n"


def test_a_checkpoint_is_read_back_and_its_further_lines_are_passed_over():
    found = Checkpoint("log.example/one", 20852163, bytes(range(32)))
    assert parse_checkpoint(found.format()) == found
    assert parse_checkpoint(found.format() + b"more\n") == found


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"o\n1\n",
        b"o\n01\n" + b"A" * 43 + b"=\n",
        b"o\n-1\n" + b"A" * 43 + b"=\n",
        b"o\n9223372036854775809\n" + b"A" * 43 + b"=\n",
        b"o\n1\nAAAA\n",
        b"\n1\n" + b"A" * 43 + b"=\n",
        b"o\n1\n" + b"A" * 43 + b"=",
        b"o\n1\n" + b"A" * 43 + b"=\n\nx\n",
    ],
)
def test_what_is_no_checkpoint_is_refused(text):
    with pytest.raises(NoteError):
        parse_checkpoint(text)
