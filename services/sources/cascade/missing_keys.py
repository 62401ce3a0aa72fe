"""Find which keys are not set, and what each would add to the series. Pure."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from services.sources.cascade.series import Series
from services.sources.catalog.source import MarketSource
from services.sources.settings import is_stream_of_massive


@dataclass(slots=True)
class MissingKey:
    """Say what a source would add if it had its key.

    Attributes:
        variables: those with the key, and with the secret that belongs to it.
        alone: the series of which no other source has what it needs.
        further: how many series others serve, and this one would, too.
    """

    source: str
    variables: tuple[str, ...]
    alone: list[Series] = field(default_factory=list)
    further: int = 0


@dataclass(frozen=True, slots=True)
class AvailableKeys:
    """Hold which sources there are, and which of them have their keys.

    Attributes:
        with_key: the names of the sources whose key is set.
        replays: the names of recordings, which need none.
    """

    catalog: Mapping[str, MarketSource]
    with_key: Collection[str]
    replays: Collection[str] = ()

    def needs_key(self, series: Series, name: str) -> bool:
        """Return True if a source has this series, and would be asked for it if its key were set."""
        source = self.catalog.get(name)
        if source is None or name in self.replays or is_stream(series, name):
            return False
        return source.auth.is_key_needed and name not in self.with_key and self._serves(series, source)

    def lacks_keys(self, series: Series) -> bool:
        """Return True if each source that has this series needs a key that is not set, and there are some."""
        wanted = [name for name in series.sources if self.needs_key(series, name)]
        return bool(wanted) and not any(self._can_ask(series, name) for name in series.sources)

    def list_missing(self, series: Iterable[Series]) -> list[MissingKey]:
        """Return what each key that is not set would add to these series; what adds most comes first."""
        found: dict[str, MissingKey] = {}
        for each in series:
            is_alone = self.lacks_keys(each)
            for name in each.sources:
                if self.needs_key(each, name):
                    auth = self.catalog[name].auth
                    variables = tuple(filter(None, (auth.env, auth.secret_env)))
                    missing = found.setdefault(name, MissingKey(name, variables))
                    if is_alone:
                        missing.alone.append(each)
                    else:
                        missing.further += 1
        return sorted(found.values(), key=lambda each: (-len(each.alone), -each.further))

    def _can_ask(self, series: Series, name: str) -> bool:
        if name in self.replays or is_stream(series, name):
            return True
        source = self.catalog.get(name)
        return source is not None and self._serves(series, source) and not self.needs_key(series, name)

    @staticmethod
    def _serves(series: Series, source: MarketSource) -> bool:
        return any(source.find_endpoints(series.kind, series.asset, series.symbol, series.timeframe))


def is_stream(series: Series, source: str) -> bool:
    """Return True if a source stands for massive's own stream, whose minutes are the symbol's, of all."""
    if series.is_separate:
        return False
    return is_stream_of_massive(source, series.kind, series.timeframe, series.asset)
