"""Make what the pages show of one's own look, and answer the requests for its logo and its stylesheet.

Everyone who reaches the board may ask for both, as for the other static files: the page for the public and
the page to sign in show them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Final, Protocol

from fastapi import APIRouter
from starlette.responses import Response

from marketswarm.text import escape_text
from marketswarm.web.responses import FOREVER
from services.board.brand.logo import LOGO_CSP, Logo, LogoError, read_logo
from services.board.settings import BrandSettings, ThemeColours

PATH: Final = "/static/brand"


class WarningLog(Protocol):
    """A log that takes a warning."""

    def warning(self, event: str, *, why: str) -> object: ...


@dataclass(frozen=True, slots=True)
class Brand:
    """What every page shows of one's own look; each part may be missing.

    `logo` and `colours` are the paths of the picture and of the stylesheet, which change with their content.
    """

    name: str = ""
    logo: str = ""
    colours: str = ""

    @property
    def is_shown(self) -> bool:
        return bool(self.name or self.logo)


NO_BRAND: Final = Brand()


class BrandFiles:
    """The brand as the truth in force has it, with its files in memory.

    `settings_now` returns the settings in force, `folder` has the logo.
    """

    def __init__(
        self, settings_now: Callable[[], BrandSettings], folder: Path | None, log: WarningLog
    ) -> None:
        self._settings_now, self._folder, self._log = settings_now, folder, log
        self.logo: Logo | None = None
        self.stylesheet = b""
        self._brand = NO_BRAND
        self._reported = ""

    def get(self) -> Brand:
        return self._brand

    def read(self) -> None:
        """Read the settings and the logo again. A logo that can't be used is left out, and logged once."""
        settings, why = self._settings_now(), ""
        self.logo = None
        try:
            if settings.logo is not None:
                self.logo = read_logo(self._folder, settings.logo)
        except LogoError as error:
            why = str(error)
        if why and why != self._reported:
            self._log.warning("board.logo_unusable", why=why)
        self._reported = why
        self.stylesheet = make_stylesheet(settings).encode()
        self._brand = Brand(
            escape_text(settings.name or ""),
            "" if self.logo is None else f"{PATH}/{_make_tag(self.logo.content)}/logo",
            f"{PATH}/{_make_tag(self.stylesheet)}/colours.css" if self.stylesheet else "",
        )


def make_stylesheet(settings: BrandSettings) -> str:
    """Return the rules that put the two colours into the variables of static/board.css; empty without any."""
    named = (("--primary", settings.primary), ("--accent", settings.accent), ("--focus", settings.accent))
    found = [(name, colours) for name, colours in named if colours is not None]
    if not found:
        return ""

    def join(write: Callable[[ThemeColours], str]) -> str:
        return " ".join(f"{name}: {write(colours)};" for name, colours in found)

    by_system = join(lambda each: f"light-dark({each.light}, {each.dark})")
    in_navy = join(lambda each: each.navy)
    return f':root {{ {by_system} }}\n:root[data-theme="navy"] {{ {in_navy} }}\n'


def make_brand_site(files: BrandFiles) -> APIRouter:
    site = APIRouter(include_in_schema=False)

    @site.get(f"{PATH}/{{tag}}/logo")
    async def send_logo(tag: str) -> Response:
        if files.logo is None:
            return _answer_missing()
        answer = _answer_file(tag, files.logo.content, files.logo.media_type)
        answer.headers["Content-Security-Policy"] = LOGO_CSP
        return answer

    @site.get(f"{PATH}/{{tag}}/colours.css")
    async def send_colours(tag: str) -> Response:
        if not files.stylesheet:
            return _answer_missing()
        return _answer_file(tag, files.stylesheet, "text/css; charset=utf-8")

    return site


def _answer_file(tag: str, content: bytes, media_type: str) -> Response:
    """Return the file; a client may keep it only under the tag of its content: its page may be old."""
    is_current = tag == _make_tag(content)
    return Response(
        content, headers={"Cache-Control": FOREVER if is_current else "no-cache"}, media_type=media_type
    )


def _answer_missing() -> Response:
    return Response("not found\n", 404, media_type="text/plain")


def _make_tag(content: bytes) -> str:
    return sha256(content).hexdigest()[:12]
