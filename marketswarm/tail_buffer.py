"""Hold the end of an output while it is read, in bounded memory. Pure."""

from typing import Final

TAIL_BYTES: Final = 16_000
"""How much of a run's output is held before secrets are removed: what is kept, and the words before it."""


class TailBuffer:
    """Hold the last `kept_bytes` of an output, in at most four times that memory, and count all of it."""

    def __init__(self, kept_bytes: int = TAIL_BYTES) -> None:
        self.size = 0
        self._kept, self._kept_bytes = bytearray(), kept_bytes

    def add(self, piece: bytes) -> None:
        self.size += len(piece)
        self._kept += piece[-self._kept_bytes :]
        if len(self._kept) > 3 * self._kept_bytes:
            del self._kept[: -self._kept_bytes]

    def read(self) -> bytes:
        """Return the last bytes, `kept_bytes` at most."""
        return bytes(self._kept[-self._kept_bytes :])
