"""What massive reads from the environment besides: which kinds of probes are on, how long each may take.

What massive reads from its section of the truth: targets, how often, how patiently. Pure.
"""

from collections import Counter
from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Final, Self

from pydantic import AfterValidator, Field, TypeAdapter, ValidationError, model_validator

from marketswarm.agent import ServiceConfig
from marketswarm.settings import MonitorSettings, variables_of
from marketswarm.truth.errors import Place
from services.massive.market.settings import MarketEnvironment, MarketSettings, key_refusal
from services.massive.probes.state import SVC, Patience
from services.massive.probes.targets import AnyTarget, Every, Polygon, Resolvers, Target, Times, Within

Limit = Annotated[float, Field(gt=0, le=60, allow_inf_nan=False)]

_RESOLVERS: Final = TypeAdapter(Resolvers)
NO_KEY: Final = "POLYGON_API_KEY is not set"


def _resolvers(text: str) -> str:
    try:
        _RESOLVERS.validate_python(listed(text))
    except ValidationError:
        raise ValueError("must be addresses with or without a port, separated by commas") from None
    return text


def listed(text: str) -> tuple[str, ...]:
    """What stands between commas."""
    return tuple(each.strip() for each in text.split(",") if each.strip())


class MassiveEnvironment(MonitorSettings, MarketEnvironment):
    """What massive reads besides, in seconds; the truth's `timeout_sec` goes first."""

    net_timeout_sec: Limit = 2.0
    net_dns_timeout_sec: Limit | None = None  # default, as of those that follow: NET_TIMEOUT_SEC
    net_tcp_timeout_sec: Limit | None = None
    net_tls_timeout_sec: Limit | None = None
    net_https_timeout_sec: Limit | None = None
    net_polygon_timeout_sec: Limit | None = None
    net_dns_enabled: bool = True
    net_tcp_enabled: bool = True
    net_tls_enabled: bool = True
    net_https_enabled: bool = True
    net_polygon_enabled: bool = True
    net_dns_resolvers: Annotated[str, AfterValidator(_resolvers)] | None = None  # default: the system's

    def within_sec(self, kind: str) -> float:
        """How long a probe of a kind may take."""
        own: Any = getattr(self, f"net_{kind}_timeout_sec")
        return float(own or self.net_timeout_sec)

    def off(self, kind: str) -> str | None:
        """Why no target of a kind is probed; None when they are."""
        if not getattr(self, f"net_{kind}_enabled"):
            return f"NET_{kind.upper()}_ENABLED"
        return NO_KEY if kind == "polygon" and self.polygon_api_key is None else None

    def resolvers(self) -> tuple[str, ...]:
        """Whom to ask for names, if not the system's."""
        return listed(self.net_dns_resolvers or "")


class ProbeSettings(ServiceConfig):
    """`settings` of massive. Each target may say otherwise."""

    probe_sec: Every = 15.0
    """The time between two probes of a target that has no `every_sec`. Example: `30`."""
    timeout_sec: Within | None = None
    """How long one probe may take. Default: `NET_<KIND>_TIMEOUT_SEC`, `NET_TIMEOUT_SEC`, 2. Example: `5`."""
    down_after: Times = 3
    """How many failures in a row make a target down. Example: `5`."""
    up_after: Times = 2
    """How many successes in a row make a target up again. Example: `1`."""
    market: MarketSettings = MarketSettings()
    """Market data."""
    targets: Annotated[tuple[AnyTarget, ...], Field(max_length=500)] = ()
    """What is probed; each name once. A target is of one of the kinds below."""

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        twice = [name for name, times in Counter(each.name for each in self.targets).items() if times > 1]
        if twice:
            raise ValueError(f"targets: two have the name {twice[0]!r}")
        return self

    @model_validator(mode="after")
    def _depends_on_what_is_there(self) -> Self:
        there = {f"{SVC}/{target.name}" for target in self.targets}
        for target in self.targets:
            unknown = [each for each in target.depends_on if each.startswith(f"{SVC}/") and each not in there]
            if unknown:
                raise ValueError(f"targets: {target.name!r} depends on {unknown[0]!r}, which is no target")
        return self

    def patience(self, target: Target) -> Patience:
        """After how many results in a row a target is down, and up."""
        down_after, up_after = target.down_after or self.down_after, target.up_after or self.up_after
        return Patience(down_after, up_after, tells=target.tells)

    def every_sec(self, target: Target) -> float:
        """How often a target is probed."""
        return target.every_sec or self.probe_sec


class MassiveSettings(ServiceConfig):
    """What massive reads from its section."""

    variables: ClassVar = variables_of(MassiveEnvironment)

    settings: ProbeSettings = ProbeSettings()
    """What massive probes, and which market data it brings."""

    def doubts(self) -> Iterator[tuple[Place, str]]:
        """See `ServiceConfig`: places for the market's key that only massive's environment can allow."""
        market = self.settings.market
        urls: dict[Place, str | None] = {
            ("market", "rest_url"): market.rest_url,
            ("market", "ws_url"): market.ws_url,
        }
        for number, target in enumerate(self.settings.targets):
            if isinstance(target, Polygon):
                urls["targets", number, "url"] = target.url
        for place, url in urls.items():
            if (why := key_refusal((url,), ())) is not None:
                yield ("settings", *place), why
