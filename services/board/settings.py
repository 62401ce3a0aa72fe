"""Define the settings of the board in the environment and in its section of the truth.

The environment says where it listens and who may connect; the truth says what it shows and how often it
looks.
"""

from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, Field, SecretStr, ValidationInfo, field_validator, model_validator

from marketswarm.agent import ServiceConfig
from marketswarm.settings import (
    CommonSettings,
    HostNames,
    Key,
    Name,
    Port,
    PublicUrl,
    SlowMs,
    list_variables,
)
from marketswarm.web.clients import check_networks
from marketswarm.web.cross_origin import check_origins
from services.board.colours import BACKGROUNDS, MIN_CONTRAST, find_contrast


def check_database_url(url: SecretStr) -> SecretStr:
    if not url.get_secret_value().startswith(("postgresql://", "postgres://")):
        raise ValueError("must be postgresql://user:password@host:port/name")
    return url


class BoardEnvironment(CommonSettings):
    """The variables of the board."""

    alert_channel: Name | None = None  # where the truth names no other
    board_host: Name = "127.0.0.1"  # the address to listen on
    board_port: Port = 8080
    # another address to listen on, over TLS alone; its port, by default the same; a certificate with its key
    board_tls_host: Name | None = None
    board_tls_port: Port | None = None
    board_tls_pem: Path | None = None
    board_allowed_hosts: HostNames | None = None  # in requests; default: our own names and addresses
    # networks whose clients may read, besides this machine; `gateway`: the host of a container
    board_open_to: Annotated[str, AfterValidator(check_networks)] | None = None
    board_public_url: PublicUrl | None = None  # by which clients ask
    # origins whose pages in a browser may read the API and /ws, exactly as the browser sends them
    board_allowed_origins: Annotated[str, AfterValidator(check_origins)] | None = None
    board_log_reads: bool = False  # each read with who asked, for an auditor
    approval_link_key: Key | None = None  # that of the notifier, whose links then act
    # networks of proxies whose `Forwarded` or `X-Forwarded-For` is believed; `gateway` as above
    board_trusted_proxies: Annotated[str, AfterValidator(check_networks)] | None = None
    # the archive, which the board only reads
    database_url: Annotated[SecretStr, AfterValidator(check_database_url)] | None = None
    database_slow_ms: SlowMs | None = None  # a query that takes longer is logged; default: none is
    # where backtests are kept; without it they end with the board
    board_backtest_folder: Path | None = None
    # where the logo is; the truth names a file in it
    board_brand_folder: Path | None = None


Word = Annotated[str, Field(min_length=1, max_length=200)]


class PublicSettings(ServiceConfig):
    """`settings.public`: what the page for the public shows. Without services and tags it shows nothing."""

    title: Annotated[str, Field(min_length=1, max_length=100)] = "Status"
    """The heading of the page. Example: `"Example Ltd: our services"`."""
    services: Annotated[tuple[Word, ...], Field(max_length=1000)] = ()
    """The services that it shows, by name. Example: `["shop"]`."""
    tags: Annotated[tuple[Word, ...], Field(max_length=100)] = ()
    """Tags; it shows the services that have one of them. Example: `["public"]`."""


Colour = Annotated[str, Field(pattern=r"^#[0-9a-fA-F]{6}$")]
"""A colour as CSS has it: `#` and six hexadecimal digits."""


class ThemeColours(ServiceConfig):
    """A colour for each theme; a single text in its place stands for all of them."""

    light: Colour
    """The colour in the theme light. Example: `"#0b5394"`."""
    dark: Colour
    """The colour in the theme dark. Example: `"#00ff88"`."""
    navy: Colour
    """The colour in the theme navy. Example: `"#00ff88"`."""

    @model_validator(mode="before")
    @classmethod
    def spread(cls, value: Any) -> Any:
        """Return a single colour as that of each theme, anything else as it is."""
        return dict.fromkeys(BACKGROUNDS, value) if isinstance(value, str) else value

    @field_validator("light", "dark", "navy")
    @classmethod
    def check_contrast(cls, colour: str, info: ValidationInfo) -> str:
        """Raise ValueError, with the theme, for a colour that can hardly be seen in it."""
        theme = str(info.field_name)
        contrast = find_contrast(colour, theme)
        if contrast < MIN_CONTRAST:
            found = int(contrast * 100) / 100  # cut, not rounded: 2.999 is not 3
            raise ValueError(
                f"has a contrast of {found:g} in the theme {theme}, which takes {MIN_CONTRAST:g} or more; "
                '{"light": …, "dark": …, "navy": …} names a colour for each theme'
            )
        return colour


class BrandSettings(ServiceConfig):
    """`settings.brand`: a name, a logo and two colours of one's own, on all pages."""

    name: Annotated[str, Field(min_length=1, max_length=60)] | None = None
    """The name in the head and in the title of each page, in place of the fleet's.
    Example: `"Example Research"`."""
    logo: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-][A-Za-z0-9_.-]{0,99}\.(svg|png)$")] | None = None
    """The picture beside the name: a file in the folder that BOARD_BRAND_FOLDER of the board names, SVG or
    PNG, of 256 KiB at most. Example: `"logo.svg"`."""
    primary: ThemeColours | None = None
    """The colour of the name and of the line below the head: one text for all themes, or one for each. It
    needs a contrast of 3 in every theme. Example: `"#2a7fd0"`."""
    accent: ThemeColours | None = None
    """The colour of the focus, and of the line below the current page, in the same form.
    Example: `{"light": "#b3261e", "dark": "#ff5252", "navy": "#ff8a80"}`."""


class PingKeySettings(ServiceConfig):
    """`settings.pings[]`: a key by which pings over HTTP are taken. It has either `sha256` or `secret`."""

    svc: Annotated[str, Field(min_length=1, max_length=63)] | None = None
    """The service that the key is for; its secret is a UUID. Without it, the key is for every service, and
    has 22 characters. Example: `"backup"`."""
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None
    """The SHA-256 of the secret, in hexadecimal digits: of a UUID in lower case, with its dashes.
    Example: `"9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"`."""
    secret: Annotated[str, Field(pattern=r"^env:PING_[A-Z0-9_]{1,100}$")] | None = None
    """The variable of the board that has the secret; its name begins with `PING_`.
    Example: `"env:PING_BACKUP"`."""

    @model_validator(mode="after")
    def check_one(self) -> "PingKeySettings":
        if (self.sha256 is None) == (self.secret is None):
            raise ValueError('must have either "sha256", or "secret": "env:PING_…"')
        return self


class MarketView(ServiceConfig):
    """`settings.market`: how the market is served."""

    requests_per_min: Annotated[int, Field(ge=0, le=1_000_000)] = 100
    """How many requests about the market a token, or an address without one, has a minute; 0 sets no limit.
    Example: `600`."""
    max_followers: Annotated[int, Field(ge=1, le=10_000)] = 200
    """How many clients may follow the market over `/ws` at once. Example: `1000`."""
    max_followers_per_address: Annotated[int, Field(ge=1, le=10_000)] = 50
    """How many of them may come from one address: behind a proxy that `BOARD_TRUSTED_PROXIES` does not name,
    from the proxy itself. Example: `200`."""


class BoardView(ServiceConfig):
    """`settings` of the board. Durations are in seconds."""

    read_sec: Annotated[float, Field(ge=0.1, le=60, allow_inf_nan=False)] = 1.0
    """The time from one look at the buses to the next; a fleet of over 1,000 services has more.
    Example: `5`."""
    max_streams: Annotated[int, Field(ge=1, le=10_000)] = 200
    """How many browsers may follow the fleet live at once. Example: `1000`."""
    seed: bool = False
    """Whether people with a token of the scope `seed` may change the truth through the board.
    Example: `true`."""
    pings: Annotated[tuple[PingKeySettings, ...], Field(max_length=10_000)] = ()
    """Keys by which pings over HTTP are accepted, besides the keys of `marketswarm token`."""
    public: PublicSettings = PublicSettings()
    """What the page for the public shows."""
    brand: BrandSettings = BrandSettings()
    """A name, a logo and two colours of one's own."""
    market: MarketView = MarketView()
    """How the market is served."""


class BoardSettings(ServiceConfig):
    """The settings of the board in the truth."""

    variables: ClassVar = list_variables(BoardEnvironment) | {"PING_*"}

    settings: BoardView = BoardView()
    """What the board shows, and how often it looks."""
