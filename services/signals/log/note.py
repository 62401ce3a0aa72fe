"""Sign texts, and verify who signed them, as C2SP's signed-note and tlog-cosignature describe.

A note is a text and lines of signatures. A key has a name and a number of four bytes, by which its line is
found; the number is no proof. Two kinds of signatures are known: that of a log over a text, and that of a
witness, which says the second at which it saw it. A third kind, ML-DSA-44, has its number reserved here, and
its lines are passed over as those of any unknown key.
"""

import base64
import binascii
import re
from dataclasses import dataclass
from enum import IntEnum
from hashlib import sha256
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

MAX_NOTE_BYTES: Final = 1_000_000
MAX_SIGNATURES: Final = 100
MAX_NAME: Final = 200
KEY_BYTES: Final = 32
_ID_BYTES: Final = 4
_TIME_BYTES: Final = 8
_SIGNATURE_BYTES: Final = 64
_DASH: Final = "\N{EM DASH} "
_CONTROL: Final = re.compile(r"[\x00-\x09\x0b-\x1f]")
_NAME: Final = re.compile(r"[^\s+]{1,200}")


class SignatureKind(IntEnum):
    """The byte by which a key says how it signs."""

    ED25519 = 0x01
    COSIGNATURE = 0x04
    ML_DSA_44_COSIGNATURE = 0x06


SUPPORTED: Final = (SignatureKind.ED25519, SignatureKind.COSIGNATURE)


class NoteError(ValueError):
    """A note, a key or a signature is not of its form; no message has a part of a private key."""


@dataclass(frozen=True, slots=True)
class PublicKey:
    """Hold who may have signed: a name, how it signs, and 32 bytes of Ed25519."""

    name: str
    kind: SignatureKind
    key: bytes

    @property
    def ident(self) -> bytes:
        return sha256(self.name.encode() + b"\n" + bytes([self.kind]) + self.key).digest()[:_ID_BYTES]

    def __str__(self) -> str:
        """Return the key as others are told of it: `name+12ab34cd+base64`."""
        return f"{self.name}+{self.ident.hex()}+{_encode(bytes([self.kind]) + self.key)}"


@dataclass(frozen=True, slots=True)
class PrivateKey:
    """Hold what signs. Its `repr` has the public key alone."""

    public: PublicKey
    _key: Ed25519PrivateKey

    def __repr__(self) -> str:
        return f"PrivateKey({self.public})"

    def export(self) -> str:
        """Return the secret as a file has it: `PRIVATE+KEY+name+12ab34cd+base64`."""
        public = self.public
        secret = _encode(bytes([public.kind]) + self._key.private_bytes_raw())
        return f"PRIVATE+KEY+{public.name}+{public.ident.hex()}+{secret}"

    def sign(self, text: bytes, at_sec: int = 0) -> str:
        """Return the line of a signature over the text of a note; a cosignature says `at_sec` (epoch)."""
        if self.public.kind is SignatureKind.COSIGNATURE:
            signed = at_sec.to_bytes(_TIME_BYTES) + self._key.sign(_stamp(text, at_sec))
        else:
            signed = self._key.sign(text)
        return f"{_DASH}{self.public.name} {_encode(self.public.ident + signed)}\n"


@dataclass(frozen=True, slots=True)
class NoteSignature:
    """Hold one line of a note, which is not verified yet."""

    name: str
    ident: bytes
    signed: bytes


@dataclass(frozen=True, slots=True)
class SignedNote:
    """Hold a text, which ends with a newline, and the signatures below it. Nothing is verified yet."""

    text: bytes
    signatures: tuple[NoteSignature, ...]


def make_key(name: str, kind: SignatureKind) -> PrivateKey:
    """Return a new key of chance. Raises NoteError for a name that a line can't have."""
    key = Ed25519PrivateKey.generate()
    return PrivateKey(
        PublicKey(_check_name(name), _check_kind(kind), key.public_key().public_bytes_raw()), key
    )


def parse_private_key(text: str) -> PrivateKey:
    """Return the key that `export` wrote. Raises NoteError, which does not say what it read."""
    words = text.strip().split("+", 4)
    if len(words) != 5 or words[:2] != ["PRIVATE", "KEY"]:
        raise NoteError("is no private key: it begins with PRIVATE+KEY+")
    kind, secret = _split_key(words[4])
    key = Ed25519PrivateKey.from_private_bytes(secret)
    public = PublicKey(_check_name(words[2]), kind, key.public_key().public_bytes_raw())
    if public.ident.hex() != words[3]:
        raise NoteError("is a private key whose number is not its own")
    return PrivateKey(public, key)


def parse_public_key(text: str) -> PublicKey:
    """Return the key of a text such as `name+12ab34cd+base64`. Raises NoteError."""
    words = text.strip().split("+", 2)
    if len(words) != 3:
        raise NoteError("is no public key: name+number+base64")
    kind, key = _split_key(words[2])
    public = PublicKey(_check_name(words[0]), kind, key)
    if public.ident.hex() != words[1]:
        raise NoteError("is a public key whose number is not its own")
    return public


def parse_note(note: bytes) -> SignedNote:
    """Return the text of a note and its signatures, of whatever key. Raises NoteError."""
    if len(note) > MAX_NOTE_BYTES:
        raise NoteError(f"is larger than {MAX_NOTE_BYTES} bytes")
    try:
        whole = note.decode()
    except UnicodeDecodeError:
        raise NoteError("is not UTF-8") from None
    if _CONTROL.search(whole):
        raise NoteError("has a control character")
    text, blank, lines = whole.rpartition("\n\n")
    if not blank or not lines.endswith("\n"):
        raise NoteError("has no signatures below an empty line")
    signatures = lines[:-1].split("\n")
    if len(signatures) > MAX_SIGNATURES:
        raise NoteError(f"has more than {MAX_SIGNATURES} signatures")
    return SignedNote(f"{text}\n".encode(), tuple(map(parse_signature, signatures)))


def parse_signature(line: str) -> NoteSignature:
    """Return a line of a signature, without its newline. Raises NoteError."""
    name, space, encoded = line.removeprefix(_DASH).partition(" ")
    if not line.startswith(_DASH) or not space:
        raise NoteError("has a line below its text that is no signature")
    signed = decode_base64(encoded)
    if len(signed) <= _ID_BYTES:
        raise NoteError("has a signature that is too short")
    return NoteSignature(_check_name(name), signed[:_ID_BYTES], signed[_ID_BYTES:])


def verify_note(note: SignedNote, key: PublicKey) -> int | None:
    """Return when a key signed a note, 0 if its kind does not say, None if the note has no line of it.

    Raises NoteError if the note has a line of the key that is not right.
    """
    found: int | None = None
    for each in note.signatures:
        if (each.name, each.ident) == (key.name, key.ident):
            found = max(found or 0, _verify(note.text, each.signed, key))
    return found


def _verify(text: bytes, signed: bytes, key: PublicKey) -> int:
    at_sec, signature = 0, signed
    if key.kind is SignatureKind.COSIGNATURE:
        at_sec, signature = int.from_bytes(signed[:_TIME_BYTES]), signed[_TIME_BYTES:]
        text = _stamp(text, at_sec)
    if len(signature) != _SIGNATURE_BYTES or at_sec >= 2**63:
        raise NoteError(f"has a signature of {key.name} that is not of its form")
    try:
        Ed25519PublicKey.from_public_bytes(key.key).verify(signature, text)
    except InvalidSignature:
        raise NoteError(f"has a signature of {key.name} that is false") from None
    return at_sec


def _stamp(text: bytes, at_sec: int) -> bytes:
    return f"cosignature/v1\ntime {at_sec}\n".encode() + text


def decode_base64(text: str) -> bytes:
    """Return the bytes of a text in the one form that base64 has for them. Raises NoteError."""
    try:
        found = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise NoteError("has a word that is not base64") from None
    if _encode(found) != text:
        raise NoteError("has a word in a second form of base64")
    return found


def _encode(value: bytes) -> str:
    return base64.b64encode(value).decode()


def _split_key(encoded: str) -> tuple[SignatureKind, bytes]:
    value = decode_base64(encoded)
    if len(value) != 1 + KEY_BYTES:
        raise NoteError("is no key of Ed25519")
    return _check_kind(value[0]), value[1:]


def _check_kind(kind: int) -> SignatureKind:
    if kind not in SUPPORTED:
        raise NoteError(f"has a key of a kind that is not supported: {kind:#04x}")
    return SignatureKind(kind)


def _check_name(name: str) -> str:
    if not _NAME.fullmatch(name) or not name.isprintable():
        raise NoteError("has a name with spaces or a plus, or of none or more than 200 letters")
    return name
