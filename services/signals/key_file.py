"""Keep a private key in a file that only its owner may read, and read it again."""

import os
import stat
from pathlib import Path
from typing import Final

from services.signals.log.note import (
    NoteError,
    PrivateKey,
    PublicKey,
    SignatureKind,
    make_key,
    parse_private_key,
)

MAX_KEY_BYTES: Final = 10_000
_OWNERS: Final = {
    SignatureKind.ED25519: "log",
    SignatureKind.COSIGNATURE: "witness",
    SignatureKind.ML_DSA_44_COSIGNATURE: "witness",
}


class KeyFileError(ValueError):
    """A key can't be read from a file, or written to it; the text has nothing of the key."""


def make_key_file(path: Path, name: str, kind: SignatureKind) -> PublicKey:
    """Make a key, write it to a new file of mode 0600, and return its public half.

    Nothing is written over: raises KeyFileError if the file is there, can't be written, or the name is
    unusable.
    """
    try:
        made = make_key(name, kind)
    except NoteError as error:
        raise KeyFileError(f"the name {name[:80]!r} {error}") from None
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(made.export() + "\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise KeyFileError(f"{path}: {error.strerror}; nothing was written") from None
    return made.public


def read_key_file(path: Path, kind: SignatureKind) -> PrivateKey:
    """Return the key of a file. Raises KeyFileError, also for a key that signs in another way.

    A file that others may write to is refused: they could have put a key of their own there.
    """
    try:
        with path.open(encoding="ascii") as file:
            mode = os.fstat(file.fileno()).st_mode
            text = file.read(MAX_KEY_BYTES)
    except OSError as error:
        raise KeyFileError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise KeyFileError(f"{path}: is no private key: it has letters that are not ASCII") from None
    if mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise KeyFileError(f"{path}: others may write to it: chmod 600")
    try:
        key = parse_private_key(text)
    except NoteError as error:
        raise KeyFileError(f"{path}: {error}") from None
    if key.public.kind is not kind:
        found, wanted = _OWNERS[key.public.kind], _OWNERS[kind]
        raise KeyFileError(f"{path}: is the key of a {found}, and not of a {wanted}")
    return key
