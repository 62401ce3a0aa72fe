"""Read the logo: a picture in a folder that the operator gives the board, checked before it is served.

The truth names the file, and everyone who may seed writes the truth. So it names a file of one folder, by a
name without a slash; a link out of that folder, a device and a pipe are refused.
"""

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from xml.parsers.expat import ExpatError

import xmltodict

MAX_LOGO_BYTES: Final = 256 * 1024
MAX_LOGO_SIDE: Final = 4096  # pixels: a small file may unpack to gigabytes in each browser
_PNG_HEAD: Final = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"
LOGO_CSP: Final = "default-src 'none'; style-src 'unsafe-inline'; sandbox"
"""The policy of the logo, if a browser shows it by itself: an SVG runs no script and loads nothing. In an
`<img>` it does neither."""


class LogoError(Exception):
    """The logo can't be used; the message says why."""


@dataclass(frozen=True, slots=True)
class Logo:
    """A picture and its media type."""

    content: bytes
    media_type: str


def read_logo(folder: Path | None, name: str) -> Logo:
    """Return the picture of that name in the folder. Raises LogoError if there is no such picture."""
    if folder is None:
        raise LogoError("BOARD_BRAND_FOLDER is not set")
    content = _read_file(folder, name)
    if name.endswith(".png"):
        return Logo(_require_png(content), "image/png")
    return Logo(_require_svg(content), "image/svg+xml")


def _read_file(folder: Path, name: str) -> bytes:
    """Return the content of a file of the folder; a link may lead to another file of the same folder."""
    try:
        path = (folder / name).resolve(strict=True)
        if not path.is_relative_to(folder.resolve(strict=True)):
            raise LogoError("it is a link out of BOARD_BRAND_FOLDER")
        # a pipe is not waited for; and what became a link since is not followed
        opened = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
        with os.fdopen(opened, "rb") as file:
            if not stat.S_ISREG(os.fstat(opened).st_mode):
                raise LogoError("it is not a file")
            content = file.read(MAX_LOGO_BYTES + 1)
    except (OSError, RuntimeError, ValueError) as error:  # RuntimeError: links in a circle in Python 3.11
        reason = error.strerror if isinstance(error, OSError) else None
        raise LogoError(f"it can't be read: {reason or 'its path is wrong'}") from None
    if len(content) > MAX_LOGO_BYTES:
        raise LogoError(f"it has more than {MAX_LOGO_BYTES} bytes")
    return content


def _require_png(content: bytes) -> bytes:
    if not content.startswith(_PNG_HEAD) or len(content) < len(_PNG_HEAD) + 8:
        raise LogoError("it is no PNG")
    start = len(_PNG_HEAD)
    width, height = (int.from_bytes(content[at : at + 4]) for at in (start, start + 4))
    if not (0 < width <= MAX_LOGO_SIDE and 0 < height <= MAX_LOGO_SIDE):
        raise LogoError(f"its sides are not from 1 to {MAX_LOGO_SIDE} pixels")
    return content


def _require_svg(content: bytes) -> bytes:
    """Return the content if it is XML whose root is `svg`; entities are refused."""
    try:
        document = xmltodict.parse(content)
    except (ExpatError, ValueError, LookupError, RecursionError):
        raise LogoError("it is no SVG: not well-formed XML, or with entities") from None
    root = next(iter(document), "")
    if root.rpartition(":")[2] != "svg":
        raise LogoError("it is no SVG: its first element is not svg")
    return content
