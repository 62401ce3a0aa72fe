"""The settings of massive in the environment and in its section of the truth. Pure.

The environment has which kinds of probes are on, and how long each may take; the truth has the targets, how
often they are probed, and when one is down.
"""

from collections import Counter
from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Final, Self

from pydantic import AfterValidator, Field, TypeAdapter, ValidationError, model_validator

from marketswarm.agent import ServiceConfig
from marketswarm.agent.outage_state import PROBES, Thresholds
from marketswarm.settings import MonitorSettings, list_variables
from marketswarm.truth.cycles import find_cycles, format_cycle
from marketswarm.truth.errors import Place
from services.massive.market.settings import NO_KEY, MarketEnvironment, MarketSettings, key_refusal
from services.massive.targets import (
    AnyTarget,
    IntervalSec,
    Polygon,
    Resolvers,
    RunLength,
    Target,
    TimeoutSec,
)

Limit = Annotated[float, Field(gt=0, le=60, allow_inf_nan=False)]

_RESOLVERS: Final = TypeAdapter(Resolvers)


def _require_resolvers(text: str) -> str:
    """Return `text` if it lists name servers, separated by commas; otherwise raise ValueError."""
    try:
        _RESOLVERS.validate_python(split_list(text))
    except ValidationError:
        raise ValueError("must be addresses with or without a port, separated by commas") from None
    return text


def split_list(text: str) -> tuple[str, ...]:
    """Split at commas, strip, and leave out empty words."""
    return tuple(each.strip() for each in text.split(",") if each.strip())


class MassiveEnvironment(MonitorSettings, MarketEnvironment):
    """The variables of massive. Times are in seconds; a `timeout_sec` in the truth goes first."""

    net_timeout_sec: Limit = 2.0
    net_dns_timeout_sec: Limit | None = None  # default of this and the next ones: NET_TIMEOUT_SEC
    net_tcp_timeout_sec: Limit | None = None
    net_tls_timeout_sec: Limit | None = None
    net_https_timeout_sec: Limit | None = None
    net_polygon_timeout_sec: Limit | None = None
    net_dns_enabled: bool = True
    net_tcp_enabled: bool = True
    net_tls_enabled: bool = True
    net_https_enabled: bool = True
    net_polygon_enabled: bool = True
    # default: the system's
    net_dns_resolvers: Annotated[str, AfterValidator(_require_resolvers)] | None = None

    def timeout_sec(self, kind: str) -> float:
        of_kind: Any = getattr(self, f"net_{kind}_timeout_sec")
        return float(of_kind or self.net_timeout_sec)

    def why_off(self, kind: str) -> str | None:
        if not getattr(self, f"net_{kind}_enabled"):
            return f"NET_{kind.upper()}_ENABLED"
        return NO_KEY if kind == "polygon" and self.polygon_api_key is None else None

    def resolvers(self) -> tuple[str, ...]:
        return split_list(self.net_dns_resolvers or "")


class ProbeSettings(ServiceConfig):
    """`settings` of massive. Each target may have its own values."""

    probe_sec: IntervalSec = 15.0
    """The time between two probes of a target that has no `every_sec`. Example: `30`."""
    timeout_sec: TimeoutSec | None = None
    """How long one probe may take. Default: `NET_<KIND>_TIMEOUT_SEC`, `NET_TIMEOUT_SEC`, 2. Example: `5`."""
    down_after: RunLength = 3
    """The number of failures in a row after which a target is down. Example: `5`."""
    up_after: RunLength = 2
    """The number of successes in a row after which a target is up again. Example: `1`."""
    market: MarketSettings = MarketSettings()
    """The market data that massive publishes."""
    targets: Annotated[tuple[AnyTarget, ...], Field(max_length=500)] = ()
    """The targets to probe; each has a name of its own, and is of one of the kinds below."""

    @model_validator(mode="after")
    def _targets_fit_together(self) -> Self:
        """Raise ValueError if two have one name, or one depends on an unknown target, itself, or in a circle.

        No service may depend on a target, so a circle has targets only.
        """
        twice = [name for name, times in Counter(each.name for each in self.targets).items() if times > 1]
        if twice:
            raise ValueError(f"targets: two have the name {twice[0]!r}")
        needs = {f"{PROBES.prefix}{target.name}": target.depends_on for target in self.targets}
        for target in self.targets:
            unknown = [
                each for each in target.depends_on if each.startswith(PROBES.prefix) and each not in needs
            ]
            if unknown:
                raise ValueError(f"targets: {target.name!r} depends on {unknown[0]!r}, which is not a target")
            if f"{PROBES.prefix}{target.name}" in target.depends_on:
                raise ValueError(f"targets: {target.name!r} depends on itself")
        cycle = next(find_cycles(needs), None)
        if cycle is not None:
            raise ValueError(f"targets: circular: {format_cycle(cycle)}")
        return self

    def thresholds(self, target: Target) -> Thresholds:
        down_after, up_after = target.down_after or self.down_after, target.up_after or self.up_after
        return Thresholds(down_after, up_after, alerts=target.alerts)


class MassiveSettings(ServiceConfig):
    """The section of massive in the truth, as far as massive itself reads it."""

    variables: ClassVar = list_variables(MassiveEnvironment)

    settings: ProbeSettings = ProbeSettings()
    """The targets that massive probes, and the market data that it publishes."""

    def find_warnings(self) -> Iterator[tuple[Place, str]]:
        """Yield a warning for each URL of the truth to which the environment does not let the API key go."""
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
