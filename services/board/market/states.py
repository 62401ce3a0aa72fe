"""Read what the sources say of themselves on the bus: the state of each series, of each source, of the gate.

The states are JSON that another service writes, so they are data that enters: each value has its type and its
bounds, a state with another one is left out and counted, and an unknown field is ignored. Pure.
"""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Final, Generic, TypeVar

import orjson
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from marketswarm.bus.stored_values import MAX_EPOCH_SEC
from marketswarm.text import escape_text
from services.market.fields import MAX_MS, MIN_MS, SYMBOL
from services.market.records import TIMEFRAMES
from services.market.separate import SEPARATOR

MAX_DIGITS: Final = 15
MAX_STATES: Final = 20_000
MAX_STATE_BYTES: Final = 64 * 1024
ACTIONS: Final = "actions"  # the kind of series without a price
OBSERVATIONS: Final = "observations"  # the kind of economic series, which have a page of their own
BREAKER_FIELDS: Final = ("failures", "opened", "open_ms", "paused")

Text = Annotated[str, Field(strict=True, max_length=1000), AfterValidator(escape_text)]
"""A text; it is read with characters only that can be printed."""
Flag = Annotated[bool, Field(strict=True)]
Count = Annotated[int, Field(strict=True, ge=0, le=2**53)]
Moment = Annotated[float, Field(strict=True, ge=-1, le=MAX_EPOCH_SEC, allow_inf_nan=False)]
EpochMs = Annotated[int, Field(strict=True, ge=MIN_MS, le=MAX_MS)]


class _State(BaseModel):
    """The base of a state: frozen, and tolerant of what a newer service adds."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    def as_json(self) -> dict[str, Any]:
        return self.model_dump(mode="json", by_alias=True)


class AttemptState(_State):
    """How a source did when it was asked for a series last, and before when it is left out."""

    verdict: Text = ""
    reason: Text = ""
    at: Moment = 0.0
    failures: Count = 0
    retry_at: Moment = 0.0


class StoredSeries(_State):
    """The state of a series: which source serves it, since when, and how fresh it is.

    `newest_ms` is the time of its newest record; other times are epoch seconds, 0 for never.
    """

    name_field: ClassVar[str] = "id"
    id: Text
    symbol: Annotated[str, Field(strict=True, pattern=f"^{SYMBOL.pattern}$")]
    kind: Text = "bars"
    timeframe: Text | None = None
    asset: Text = ""
    group: Text | None = None
    critical: Flag = False
    sources: Annotated[tuple[Text, ...], Field(alias="from", max_length=50)] = ()
    status: Text = "unknown"
    serving: Text | None = None
    reason: Text | None = None
    since: Moment = 0.0
    newest_ms: EpochMs | None = None
    loaded_at: Moment = 0.0
    fresh_until: Moment = 0.0
    max_age_sec: Moment = 0.0
    replay: Flag = False
    attempts: Annotated[dict[Text, AttemptState], Field(max_length=50)] = Field(default_factory=dict)

    @property
    def is_separate(self) -> bool:
        """Whether its bars are those of one source alone, which no page shows as the symbol's."""
        return SEPARATOR in self.id

    @property
    def order(self) -> tuple[object, ...]:
        return self.group or "", not self.critical, self.symbol, self.timeframe or ""

    @property
    def label(self) -> str:
        return self.group or self.asset or "others"


class StoredBreaker(_State):
    """The circuit breaker of a source. Times are epoch seconds.

    `until` is when the source is asked again after failures, None while it is well. `paused_until` is until
    when an operator pauses it: -1 until it is resumed, None if it is not paused.
    """

    failures: Count = 0
    until: Moment | None = None
    paused_until: Moment | None = None

    def is_paused(self, now: float) -> bool:
        return self.paused_until is not None and (self.paused_until < 0 or self.paused_until > now)


class StoredSource(_State):
    """The state of a source, and how often it answered, failed and set limits."""

    name_field: ClassVar[str] = "name"
    name: Text = ""
    state: Text = "unknown"
    outcome: Text | None = None
    reason: Text | None = None
    since: Moment = 0.0
    asked_at: Moment = 0.0
    ok_at: Moment = 0.0
    fails: Count = 0
    answers: Count = 0
    failures: Count = 0
    limited: Count = 0
    records: Count = 0
    breaker: StoredBreaker | None = None

    @property
    def order(self) -> tuple[object, ...]:
        return (self.name,)


class StoredGateFailure(_State):
    """A series that the gate could not load, or not in time."""

    series: Text = ""
    source: Text | None = None
    status: Text = ""
    reason: Text = ""
    critical: Flag = False


class GateState(_State):
    """The state of the last run of the gate: `loading`, `open` or `closed`.

    Of `total` series it tried `done` so far; `loaded` of them are there, and `share` of them must be.
    """

    state: Text = "unknown"
    started_at: Moment = 0.0
    ended_at: Moment | None = None
    total: Count = 0
    done: Count = 0
    loaded: Count | None = None
    share: Moment | None = None
    failed: Annotated[tuple[StoredGateFailure, ...], Field(max_length=1000)] = ()


State = TypeVar("State", StoredSeries, StoredSource)
StateModel = TypeVar("StateModel", bound=_State)


class StateCache(Generic[State]):
    """Parses the states of a hash, each again only once its text has changed."""

    def __init__(self, model: type[State]) -> None:
        self._model: type[State] = model
        self._known: dict[bytes, tuple[bytes, State | None]] = {}

    def parse(self, raw: Mapping[bytes, bytes]) -> tuple[tuple[State, ...], int]:
        """Return the states in their order, and how many could not be parsed."""
        before, self._known = self._known, {}
        for name, text in itertools.islice(raw.items(), MAX_STATES):
            known = before.get(name)
            if known is None or known[0] != text:
                own = {self._model.name_field: name.decode("ascii", "replace")}
                known = text, _parse_state(self._model, text, **own)
            self._known[name] = known
        found = [state for _, state in self._known.values() if state is not None]
        return tuple(sorted(found, key=lambda one: one.order)), len(self._known) - len(found)


def parse_gate(raw: bytes | None) -> GateState | None:
    """Return the state of the gate; None if it never ran, or its state can't be parsed."""
    return _parse_state(GateState, raw or b"")


def parse_breaker(raw: Sequence[bytes | None]) -> StoredBreaker | None:
    """Return a circuit breaker from the values of BREAKER_FIELDS; None if it is missing or out of bounds.

    A value that is not a number counts as 0.
    """
    if all(value is None for value in raw):
        return None
    failures, opened, open_ms, paused = map(_parse_number, raw)
    paused_until = None if not paused else paused / 1000 if paused > 0 else -1.0
    until = (opened + open_ms) / 1000 if open_ms else None
    try:
        return StoredBreaker(failures=failures, until=until, paused_until=paused_until)
    except ValidationError:
        return None


def add_breakers(
    sources: Iterable[StoredSource], breakers: Mapping[str, StoredBreaker | None]
) -> tuple[StoredSource, ...]:
    """Return the states of all sources that have a breaker, or are asked, by name.

    `breakers` has every source that a series names, also those that were not asked yet.
    """
    found = {one.name: one for one in sources}
    names = sorted(found.keys() | breakers.keys())
    return tuple(
        found.get(name, StoredSource(name=name)).model_copy(update={"breaker": breakers.get(name)})
        for name in names
    )


def list_observations(series: Iterable[StoredSeries]) -> tuple[StoredSeries, ...]:
    return tuple({one.symbol: one for one in series if one.kind == OBSERVATIONS}.values())


def list_group(series: Iterable[StoredSeries], group: str) -> tuple[StoredSeries, ...]:
    """Return one series for each symbol of a group: quotes, then bars of the shortest timeframe."""
    by_symbol: dict[str, list[StoredSeries]] = {}
    for one in series:
        if one.label == group and one.kind != ACTIONS and not one.is_separate:
            by_symbol.setdefault(one.symbol, []).append(one)
    return tuple(pick_series(some) for some in by_symbol.values())


def pick_series(series: Iterable[StoredSeries]) -> StoredSeries:
    """Return the series of a symbol, of at least one, that shows its present best."""
    kinds = {"quotes": 0, "bars": 1}
    spans: dict[str | None, int] = {timeframe: place for place, timeframe in enumerate(TIMEFRAMES)}
    return min(series, key=lambda one: (kinds.get(one.kind, 2), spans.get(one.timeframe, len(spans))))


def _parse_number(text: bytes | None) -> int:
    digits = (text or b"").removeprefix(b"-")
    return int(text or 0) if digits.isdigit() and len(digits) <= MAX_DIGITS else 0


def _parse_state(model: type[StateModel], text: bytes, **own: str) -> StateModel | None:
    """Return a state from its JSON and its `own` name, which the hash has; None if it can't be parsed."""
    try:
        value = orjson.loads(text) if len(text) <= MAX_STATE_BYTES else None
        return model.model_validate(value | own) if isinstance(value, dict) else None
    except ValueError:
        return None
