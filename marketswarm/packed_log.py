"""Pack the end of a log into a text that fits into an entry of a stream, and unpack it. Pure.

500 lines are ten times as long as what is read of one entry.
"""

import base64
import binascii
import zlib
from typing import Final

LOG_LINES: Final = 500
"""The most lines of one log."""
LOG_BYTES: Final = 64 * 1024
"""How much of the logs of a service is packed."""
MAX_PACKED: Final = 12_000
"""The longest packed log, in characters."""


def pack_log(text: str) -> str:
    """Return the last LOG_LINES of a text, packed, or as many as pack to MAX_PACKED characters."""
    lines = text.splitlines()[-LOG_LINES:]
    while lines:
        packed = base64.b64encode(zlib.compress("\n".join(lines).encode("utf-8", "replace"), 9)).decode()
        if len(packed) <= MAX_PACKED:
            return packed
        lines = lines[len(lines) // 2 + 1 :]
    return ""


def unpack_log(packed: str) -> list[str]:
    """Return the lines of a packed log; none if they can't be unpacked. Whoever packed it may be hostile."""
    try:
        raw = base64.b64decode(packed, validate=True)
        text = zlib.decompressobj().decompress(raw, 2 * LOG_BYTES)
    except (binascii.Error, ValueError, zlib.error):
        return []
    return text.decode("utf-8", "replace").splitlines()[-LOG_LINES:]
