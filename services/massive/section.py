"""What massive reads from its section of the truth: targets, how often, how patiently. Pure."""

from collections import Counter
from collections.abc import Iterator
from typing import Annotated, ClassVar, Self

from pydantic import Field, model_validator

from marketswarm.agent import Own
from marketswarm.settings import variables_of
from marketswarm.truth.errors import Place
from services.massive.market.settings import MarketWishes, key_refusal
from services.massive.probes.state import SVC, Patience
from services.massive.probes.targets import AnyTarget, Every, Polygon, Target, Times, Within
from services.massive.settings import Settings


class Wishes(Own):
    """`settings` of massive. Each target may say otherwise."""

    probe_sec: Every = 15.0
    """The time between two probes of a target that has no `every_sec`. Example: `30`."""
    timeout_sec: Within | None = None
    """How long one probe may take. Default: `NET_<KIND>_TIMEOUT_SEC`, `NET_TIMEOUT_SEC`, 2. Example: `5`."""
    down_after: Times = 3
    """How many failures in a row make a target down. Example: `5`."""
    up_after: Times = 2
    """How many successes in a row make a target up again. Example: `1`."""
    market: MarketWishes = MarketWishes()
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


class Section(Own):
    """What massive reads from its section."""

    variables: ClassVar = variables_of(Settings)

    settings: Wishes = Wishes()
    """What massive probes, and which market data it brings."""

    def doubts(self) -> Iterator[tuple[Place, str]]:
        """See `Own`: places for the market's key that only massive's environment can allow."""
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
