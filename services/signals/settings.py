"""Define the settings of signals in truth and environment: who votes, and how votes are weighed. Pure."""

from collections.abc import Collection, Iterator
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from marketswarm.agent import ServiceConfig, point_like
from marketswarm.keys import CHECKED_BARS, MARKET_ACTIONS, SIGNALS_LOG, SOURCE_BARS
from marketswarm.settings import SlowMs, list_variables
from marketswarm.settings.programs import MonitorSettings
from marketswarm.text import format_names
from marketswarm.truth import MARKET, AccessPoint, Service, Truth
from marketswarm.truth.errors import Place, find_nearest
from services.market.fields import SYMBOL
from services.market.records import PERIODS, AssetClass, Timeframe
from services.market.sessions import ROUND_THE_CLOCK, find_default_session
from services.market.universe import (
    LoadedSymbol,
    list_bar_sources,
    list_checked_symbols,
    list_separate_bars,
)
from services.signals.ask.endpoints import (
    VOTER,
    WORDING,
    AskSettings,
    CallSettings,
    ChatSettings,
    EndpointSettings,
    HttpSettings,
    NewsSettings,
    VoteUrl,
    WordingSettings,
)
from services.signals.ask.keys import VoterEnvironment
from services.signals.consensus.consensus import UNIT, VERSION, ConsensusRules

MAX_VOTERS: Final = 50
MAX_SYMBOLS: Final = 10_000
MOST_CALLS: Final = 15
"""The calls of a cycle, of all voters together, above which `validate` warns."""
KINDS: Final = ("bars", "chat", "http", "news")
"""The kinds of voters, the default first."""
RULES: Final = ("trend", "reversion", "breakout", "volume")
"""The rules of voters of kind `bars`, each a file of `services/signals/voters`."""


class SignalsEnvironment(MonitorSettings, VoterEnvironment):
    """The variables of signals. The URL of the database and the keys may be in files: `<NAME>_FILE`."""

    signals_database_url: Annotated[str, Field(min_length=1)] | None = Field(default=None, repr=False)
    """The database of archive, for a role that may add to the tables of signals and read what they need."""
    database_slow_ms: SlowMs | None = None
    """A statement that takes longer is logged; without it none is."""
    signals_log_key_file: Path | None = None
    """The file with the private key that signs the log."""
    signals_witness_url: VoteUrl | None = None
    """The witness, if the truth names none: `marketswarm up` sets it for the one that it runs."""
    signals_witness_key: str | None = None
    """The public key of that witness."""


def _require_symbol(text: str) -> str:
    if SYMBOL.fullmatch(text) is None:
        raise ValueError("must be a symbol: 1 to 40 letters, digits and . : / _ ^ = -, such as BTC/USD")
    return text


SymbolName = Annotated[str, AfterValidator(_require_symbol)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
SourceWord = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,60}$")]
RuleName = Literal["trend", "reversion", "breakout", "volume"]


class WeighedVoter(ServiceConfig):
    """`endpoints[]` of signals: the voters. What else a voter has is said by its `kind`."""

    voter: Annotated[str, Field(pattern=f"^(?:{VOTER.pattern})$")]
    """The name of the voter, as votes and signals have it. Example: `"trend"`."""
    kind: str
    """Where its votes come from: `bars` (a rule over checked bars), `chat` (a model), `http` (a program of
    yours) or `news` (the notes of `vexy_ai`). Default: `"bars"`. Example: `"chat"`."""
    weight: Annotated[float, Field(gt=0, le=1_000_000, allow_inf_nan=False)]
    """Its weight beside those of others; they need not add up to 1. Example: `0.4`."""


class BarsVoterEntry(WeighedVoter):
    """A rule over the last bars of a symbol."""

    kind: Literal["bars"] = "bars"
    rule: RuleName
    """The rule. Example: `"trend"`."""
    source: SourceWord | None = None
    """The source whose bars alone it sees. Default: bars of all sources. Example: `"massive"`."""


class ChatVoterEntry(WeighedVoter, ChatSettings):
    """A language model behind an OpenAI-compatible endpoint."""

    kind: Literal["chat"] = "chat"


class HttpVoterEntry(WeighedVoter, HttpSettings):
    """A program of yours that is asked over HTTP."""

    kind: Literal["http"] = "http"


class NewsVoterEntry(WeighedVoter, NewsSettings):
    """The notes about a symbol's news, by their sentiment and age."""

    kind: Literal["news"] = "news"


def _choose_kind(value: Any) -> Any:
    """Return the entry of a voter with its kind. Raise ValueError for one that is not known."""
    if not isinstance(value, dict):
        return value
    kind = value.get("kind", KINDS[0])
    if kind not in KINDS:
        raise ValueError(f"kind: is not a known value (known: {', '.join(KINDS)})")
    return {**value, "kind": kind}


VoterEntry = BarsVoterEntry | ChatVoterEntry | HttpVoterEntry | NewsVoterEntry


class WitnessSettings(ServiceConfig):
    """`settings.witness`: who cosigns the checkpoints of the log."""

    url: VoteUrl
    """The address of `marketswarm witness run`. Example: `"https://witness.example:8443"`."""
    key: Annotated[str, Field(min_length=1, max_length=400, pattern=r"^[!-~]+$")]
    """Its public key, as `marketswarm witness key` prints it. Example:
    `"witness.example+1b2c3d4e+BEFiY2Q="`."""


class ShadowVoterEntry(ServiceConfig):
    """`settings.shadow.voters[]`: a voter of bars of its own, or one in force."""

    voter: Annotated[str, Field(pattern=f"^(?:{VOTER.pattern})$")]
    """The name of the voter. Without a `rule` it is one in force. Example: `"xai_grok"`."""
    weight: Annotated[float, Field(gt=0, le=1_000_000, allow_inf_nan=False)]
    """Its weight beside those of others; they need not add up to 1. Example: `0.4`."""
    rule: RuleName | None = None
    """The rule over bars by which it votes in the shadow alone. Example: `"breakout"`."""
    source: SourceWord | None = None
    """With a rule: the source whose bars alone it sees. Default: all sources. Example: `"massive"`."""

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.source is not None and self.rule is None:
            raise ValueError("source: is for a voter with a rule")
        return self


class ShadowSettings(ServiceConfig):
    """`settings.shadow`: another revision of voters and thresholds, played beside the one in force.

    What is not set is as in force. It asks nobody outside, and leaves nothing in the log.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,39}$")]
    """What it is called. Example: `"7.0-trial"`."""
    voters: Annotated[tuple[ShadowVoterEntry, ...], Field(min_length=1, max_length=MAX_VOTERS)]
    """Its voters, each with its weight."""
    quorum: Share | None = None
    """The share of all weight that has to vote. Default: as in force. Example: `0.6`."""
    least_votes: Annotated[int, Field(ge=1, le=MAX_VOTERS)] | None = None
    """The number of voters that have to vote. Default: as in force. Example: `3`."""
    enter: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] | None = None
    """A side begins at a score that is this far from 0. Default: as in force. Example: `0.25`."""
    leave: Share | None = None
    """It ends at a score that is nearer to 0 than this. Default: as in force. Example: `0.2`."""
    cooldown_sec: Annotated[float, Field(ge=0, le=86_400, allow_inf_nan=False)] | None = None
    """How long after a change of side no side begins. Default: as in force. Example: `300`."""


class SignalOptions(ServiceConfig):
    """`settings` of signals."""

    cycle_sec: Annotated[float, Field(ge=0.2, le=3600, allow_inf_nan=False)] = 5.0
    """The seconds from one tick to the next. Example: `15`."""
    timeframe: Timeframe = "1m"
    """The timeframe of the bars that voters see. Example: `"15m"`."""
    symbols: Annotated[tuple[SymbolName, ...], Field(max_length=MAX_SYMBOLS)] = ()
    """The symbols to decide on. Default: all that bars has. Example: `["SPY", "BTC/USD"]`."""
    quorum: Share = 0.5
    """The share of all weight that has to vote. Example: `0.6`."""
    least_votes: Annotated[int, Field(ge=1, le=MAX_VOTERS)] = 2
    """The number of voters that have to vote. Example: `3`."""
    enter: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] = 0.3
    """A side begins at a score that is this far from 0. Example: `0.4`."""
    leave: Share = 0.1
    """It ends at a score that is nearer to 0 than this; at most `enter`. Example: `0.2`."""
    cooldown_sec: Annotated[float, Field(ge=0, le=86_400, allow_inf_nan=False)] = 60.0
    """How long after a change of side no side begins, in seconds of the market's time. Example: `300`."""
    skip_move: Share = 0.005
    """The change of the price since the last evaluation, as a share of it, below which a symbol is not
    evaluated; 0: it is with each new bar. Example: `0.002`."""
    late_sec: Annotated[float, Field(gt=0, le=60, allow_inf_nan=False)] = 2.0
    """The seconds after which a vote from outside is late; at most half of `cycle_sec`. Example: `1`."""
    consensus: Literal["6.0"] = VERSION
    """The version of the formulas by which votes are weighed. Example: `"6.0"`."""
    origin: Annotated[str, Field(pattern=r"^[!-*,-~]{1,200}$")] | None = None
    """The name of the log, which never changes. Default: the name of the fleet and `/signals`. Example:
    `"example.org/signals"`."""
    checkpoint_sec: Annotated[float, Field(ge=1, le=86_400, allow_inf_nan=False)] = 60.0
    """The seconds from one checkpoint of the log to the next. Example: `30`."""
    witness: WitnessSettings | None = None
    """Who cosigns checkpoints; without one no signal is shown as proven."""
    shadow: ShadowSettings | None = None
    """Another revision that is played beside this one, on the same ticks; its differences are counted."""
    wording: WordingSettings | None = None
    """A model that words the reason of a signal that changed its side; it never changes the signal."""
    keep: Annotated[int, Field(ge=1000, le=10_000_000)] = 100_000
    """The number of entries, roughly, that `signals:log` keeps; up to twice as many while a reader is behind.
    Example: `500000`."""

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.leave > self.enter:
            raise ValueError(f"leave: {self.leave:g} is above enter, {self.enter:g}")
        if self.late_sec > self.cycle_sec / 2 and "late_sec" in self.model_fields_set:
            raise ValueError(f"late_sec: must be at most half of cycle_sec, which is {self.cycle_sec:g}")
        if len(set(self.symbols)) < len(self.symbols):
            raise ValueError("symbols: names a symbol twice")
        return self

    @property
    def wait_sec(self) -> float:
        """How long a cycle waits for votes from outside."""
        return min(self.late_sec, self.cycle_sec / 2)


class SignalsSettings(ServiceConfig):
    """The settings of signals in the truth."""

    variables: ClassVar = list_variables(SignalsEnvironment)

    endpoints: Annotated[
        tuple[Annotated[VoterEntry, Field(discriminator="kind"), BeforeValidator(_choose_kind)], ...],
        Field(min_length=1, max_length=MAX_VOTERS),
    ]
    """The voters, each with its weight."""
    settings: SignalOptions = SignalOptions()
    """How often and on what is decided, and how votes become a side."""

    @model_validator(mode="after")
    def _voters_fit_together(self) -> Self:
        seen: set[str] = set()
        for number, each in enumerate(self.endpoints):
            if each.voter in seen:
                raise ValueError(f"endpoints[{number}].voter: another voter has this name")
            seen.add(each.voter)
        if self.settings.wording is not None and WORDING in seen:
            raise ValueError(f"settings.wording: a voter is called {WORDING}, as its model is")
        if self.settings.least_votes > len(self.endpoints):
            raise ValueError(f"settings.least_votes: there are {len(self.endpoints)} voters")
        return self

    @model_validator(mode="after")
    def _shadow_fits(self) -> Self:
        shadow = self.settings.shadow
        if shadow is None:
            return self
        in_force, seen = {each.voter for each in self.endpoints}, set[str]()
        for number, each in enumerate(shadow.voters):
            place = f"settings.shadow.voters[{number}].voter"
            if each.voter in seen:
                raise ValueError(f"{place}: another voter has this name")
            if each.rule is None and each.voter not in in_force:
                raise ValueError(f"{place}: no voter in force has this name, and it has no rule")
            seen.add(each.voter)
        rules = self.shadow_rules
        if rules is not None and rules.leave > rules.enter:
            raise ValueError("settings.shadow.leave: is above its enter")
        if rules is not None and rules.least_votes > len(shadow.voters):
            raise ValueError(f"settings.shadow.least_votes: there are {len(shadow.voters)} voters")
        return self

    def find_truth_warnings(self, truth: Truth) -> Iterator[tuple[Place, str]]:
        """Yield warnings: symbols that bars does not have, and more calls in a cycle than MOST_CALLS.

        So is a voter that is held to a source whose bars nothing loads for itself.
        """
        known = list_checked_symbols(truth)
        if unknown := [symbol for symbol in self.settings.symbols if symbol not in known]:
            yield ("settings", "symbols"), f"bars has no {format_names(unknown)}"
        if not self.settings.symbols and not known:
            yield ("settings", "symbols"), "bars has no symbols, so there is nothing to decide on"
        called: list[EndpointSettings] = [each for each in self.endpoints if isinstance(each, CallSettings)]
        called += [] if self.settings.wording is None else [self.settings.wording]
        if (calls := sum(each.calls_per_cycle for each in called)) > MOST_CALLS:
            words = f"those that are asked may take {calls} calls a cycle, more than {MOST_CALLS}"
            yield ("endpoints",), f"calls_per_cycle: {words}"
        yield from self._find_unseen(truth)

    def _find_unseen(self, truth: Truth) -> Iterator[tuple[Place, str]]:
        """Yield a warning for each voter that is held to a source whose bars it may not see."""
        sources = truth.services.get("sources")
        if sources is None:
            return  # another program brings all bars
        symbols = list(find_symbols(self, truth))
        for place, source in self._list_held():
            for why in _describe_unseen(sources, source, symbols, self.settings.timeframe):
                yield place, why

    def _list_held(self) -> list[tuple[Place, str]]:
        """Return each source that a voter is held to, in force or in the shadow, with its place."""
        shadow = self.settings.shadow
        held: list[tuple[Place, str | None]] = [
            (("endpoints", number, "source"), each.source)
            for number, each in enumerate(self.endpoints)
            if isinstance(each, BarsVoterEntry)
        ]
        for number, other in enumerate(() if shadow is None else shadow.voters):
            held.append((("settings", "shadow", "voters", number, "source"), other.source))
        return [(place, source) for place, source in held if source is not None]

    @property
    def rules(self) -> ConsensusRules:
        """By which votes are weighed: the numbers exactly as the truth writes them."""
        options = self.settings
        return ConsensusRules(
            weights={each.voter: to_units(each.weight) for each in self.endpoints},
            quorum=Fraction(repr(options.quorum)),
            least_votes=options.least_votes,
            enter=to_units(options.enter),
            leave=to_units(options.leave),
            cooldown_ms=round(1000 * options.cooldown_sec),
        )

    @property
    def shadow_rules(self) -> ConsensusRules | None:
        """By which votes are weighed in the shadow; None without one."""
        shadow, options = self.settings.shadow, self.settings
        if shadow is None:
            return None

        def choose(name: str) -> Any:
            own = getattr(shadow, name)
            return getattr(options, name) if own is None else own

        return ConsensusRules(
            weights={each.voter: to_units(each.weight) for each in shadow.voters},
            quorum=Fraction(repr(choose("quorum"))),
            least_votes=choose("least_votes"),
            enter=to_units(choose("enter")),
            leave=to_units(choose("leave")),
            cooldown_ms=round(1000 * choose("cooldown_sec")),
        )

    @property
    def sources(self) -> frozenset[str]:
        """The sources to whose bars a voter is held, in force or in the shadow."""
        shadow = self.settings.shadow
        named = [each.source for each in self.endpoints if isinstance(each, BarsVoterEntry)]
        named += [] if shadow is None else [each.source for each in shadow.voters]
        return frozenset(source for source in named if source is not None)

    @property
    def asked(self) -> dict[str, AskSettings]:
        """The voters that are asked outside, by name."""
        return {each.voter: each for each in self.endpoints if not isinstance(each, BarsVoterEntry)}


def _describe_unseen(
    sources: Service, source: str, symbols: Collection[str], timeframe: Timeframe
) -> Iterator[str]:
    """Yield why a voter that is held to a source may not see bars of some symbols, for each reason once.

    A source that alone has a symbol's bars needs no series for itself, and neither does a symbol that sources
    does not load: another program brings its bars.
    """
    separate, named = list_separate_bars(sources), list_bar_sources(sources)
    apart = [symbol for symbol in symbols if (symbol, source) in separate]
    unloaded = [each for each in symbols if each not in apart and source not in named.get(each, (source,))]
    if unloaded:
        nearest = find_nearest(source, {*(name for _, name in separate), *sum(named.values(), ())})
        hint = f"; did you mean {nearest}?" if nearest not in (None, source) else ""
        yield f"no series of sources loads bars of {format_names(unloaded)} from {source}{hint}"
    shared = [each for each in symbols if each not in apart and len(named.get(each, ())) > 1]
    if shared := [each for each in shared if each not in unloaded]:
        yield (
            f"it sees bars of {format_names(shared)} only while {source} serves them to all: "
            f'add a series from {source} with `"separate": true`'
        )
    if other := [each for each in apart if not _can_give(separate[each, source], timeframe)]:
        has = ", ".join(sorted(separate[other[0], source]))
        yield f"{source} is loaded for itself in {has} of {format_names(other)}, and voters see {timeframe}"


def _can_give(loaded: Collection[str], timeframe: str) -> bool:
    """Return True if bars makes a timeframe of those that are loaded: any of minutes, longer ones of days."""
    return timeframe in loaded or "1m" in loaded or ("1d" in loaded and timeframe in PERIODS)


def to_units(number: float) -> int:
    """Return a number as a truth writes it, in UNIT; one below 10^-12 counts as that."""
    return max(int(Decimal(repr(number)) * UNIT), int(number > 0))


def find_symbols(settings: SignalsSettings, truth: Truth) -> dict[str, LoadedSymbol]:
    """Return the symbols to decide on, by name, each with its asset class and the code of its session.

    A symbol that bars does not have by the truth trades round the clock, for all that is known of it.
    """
    known = list_checked_symbols(truth)
    found: dict[str, LoadedSymbol] = {}
    for symbol in sorted(settings.settings.symbols or known)[:MAX_SYMBOLS]:
        loaded = known.get(symbol)
        if loaded is None:
            found[symbol] = LoadedSymbol(AssetClass.STOCKS, ROUND_THE_CLOCK)
        else:
            session = loaded.session or find_default_session(loaded.asset, symbol) or ROUND_THE_CLOCK
            found[symbol] = LoadedSymbol(loaded.asset, session)
    return found


def find_bars(section: Service) -> AccessPoint:
    """Return the stream of checked bars that the truth names."""
    return point_like(section.access_points.subscribe_to, MARKET, CHECKED_BARS)


def find_actions(section: Service) -> str:
    """Return the key of the stream of corporate actions, which is on the bus of the checked bars."""
    return point_like(section.access_points.subscribe_to, find_bars(section).bus, MARKET_ACTIONS).key


def find_source_bars(section: Service) -> str:
    """Return the key of the stream of bars that are loaded from one source, on the bus of the others."""
    return point_like(section.access_points.subscribe_to, find_bars(section).bus, SOURCE_BARS).key


def find_separate(
    settings: SignalsSettings, truth: Truth, symbols: Collection[str]
) -> frozenset[tuple[str, str]]:
    """Return the symbols and sources of held voters whose bars are loaded from the source for themselves."""
    found = list_separate_bars(truth.services.get("sources"))
    return frozenset(each for each in found if each[0] in symbols and each[1] in settings.sources)


def find_log(section: Service) -> AccessPoint:
    """Return the stream to which committed places are published."""
    return point_like(section.access_points.publish_to, MARKET, SIGNALS_LOG)


def find_origin(settings: SignalsSettings, truth: Truth) -> str:
    """Return the name of the log; a space or a plus in the name of the fleet is a dash in it."""
    fleet = "".join("-" if char.isspace() or char == "+" else char for char in truth.fleet)
    return settings.settings.origin or f"{fleet or 'marketswarm'}/signals"
