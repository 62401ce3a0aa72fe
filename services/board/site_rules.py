"""Say to the guard what is the board's own: its names, its sign-in page, and which bodies may be long."""

from dataclasses import replace
from typing import Final
from urllib.parse import urlsplit

from marketswarm.metrics.exporter import list_own_names
from marketswarm.operator.tokens import Scope
from marketswarm.truth.parse import MAX_BYTES
from marketswarm.web.cross_origin import OtherOrigins
from marketswarm.web.guard import SiteRules
from services.board.settings import BoardEnvironment

_FORM_BYTES: Final = 4 * 1024 * 1024
HEALTH_PATH: Final = "/health"
READ_ELSEWHERE: Final = ("/api/", HEALTH_PATH, "/readyz", "/ws")
"""How the paths begin that pages of other origins may read: not those of pages, which have forms."""
SITE_RULES: Final = SiteRules(
    names=(),
    names_variable="BOARD_ALLOWED_HOSTS",
    sign_in="/sign-in?back=fleet",
    large_bodies={
        "/api/v1/truth": MAX_BYTES,
        "/api/v1/truth/check": MAX_BYTES,
        "/truth/check": _FORM_BYTES,
        "/truth/seed": _FORM_BYTES,
    },
    reading_posts=("/api/v1/truth/check",),
    read_by={"/api/v1/signals": Scope.SIGNALS},
    shortened=(HEALTH_PATH,),
)
"""The rules without the names of one board."""


def make_rules(settings: BoardEnvironment) -> SiteRules:
    public = urlsplit(settings.board_public_url or "").hostname or ""
    more = (settings.board_allowed_hosts or "").split(",")
    names = list_own_names(settings.board_host, settings.board_tls_host or "", public, *more)
    return replace(SITE_RULES, names=names)


def find_origins(settings: BoardEnvironment) -> OtherOrigins | None:
    """Return what pages of other origins may read; None if BOARD_ALLOWED_ORIGINS names no origin."""
    named = settings.board_allowed_origins
    return OtherOrigins(named.split(","), READ_ELSEWHERE) if named else None
