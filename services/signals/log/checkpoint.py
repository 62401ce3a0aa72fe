"""Write down how large a log is and what its root is, as C2SP's tlog-checkpoint describes. Pure."""

import base64
import re
from dataclasses import dataclass
from typing import Final

from services.signals.log.merkle import HASH_BYTES, MAX_SIZE
from services.signals.log.note import NoteError, decode_base64

_SIZE: Final = re.compile(r"0|[1-9][0-9]{0,18}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Hold what a log says of itself: its name, how many entries it has, and the root of their tree."""

    origin: str
    size: int
    root: bytes

    def format(self) -> bytes:
        """Return the text that is signed."""
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode()}\n".encode()


def parse_size(text: str) -> int:
    """Return a size as a checkpoint writes it, without leading zeros. Raises NoteError."""
    if not _SIZE.fullmatch(text) or int(text) > MAX_SIZE:
        raise NoteError("has a size that is no number, has a leading zero, or is too large")
    return int(text)


def parse_checkpoint(text: bytes) -> Checkpoint:
    """Return what a text says, which ends with a newline; more lines than three are passed over.

    Raises NoteError.
    """
    lines = text.decode().split("\n")
    if len(lines) < 4 or lines[-1] or not all(lines[:-1]):
        raise NoteError("is no checkpoint: it has three lines, and none is empty")
    root = decode_base64(lines[2])
    if len(root) != HASH_BYTES:
        raise NoteError("has a root that is no hash")
    return Checkpoint(lines[0], parse_size(lines[1]), root)
