"""What massive reads from the environment besides: which kinds of probes are on, how long each may take."""

from typing import Annotated, Any, Final

from pydantic import AfterValidator, Field, TypeAdapter, ValidationError

from marketswarm.settings import VigilSettings
from services.massive.market.settings import MarketSettings
from services.massive.probes.targets import Resolvers

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


class Settings(VigilSettings, MarketSettings):
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
