"""Keep series and sources on the bus of the market: claims, published records, requests, states.

A load is published by one script (`publish_series.lua`), so a process that is killed has published all of it
or nothing, and the next one asks again. Every method raises BusError.
"""

import hashlib
import re
import secrets
from base64 import urlsafe_b64encode
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from typing import Any, Final

import orjson

from marketswarm.agent.outage_state import OutageState
from marketswarm.bus import Bus, BusError
from marketswarm.bus.lease import LeaseAction, apply_lease_action
from marketswarm.bus.scripts import Script
from marketswarm.bus.stored_values import (
    MAX_EPOCH_SEC,
    parse_decimal,
    parse_object,
    read_fields,
    report_unusable,
)
from marketswarm.bus.stream_length import BARS_READERS, StreamLength
from marketswarm.bus.stream_loss import LostSpan, read_loss, settle_loss
from marketswarm.keys import (
    BARS_LOST,
    MARKET_ACTIONS,
    MARKET_BARS,
    MARKET_DOWNLOADS,
    MARKET_OBSERVATIONS,
    MARKET_QUOTES,
    MARKET_SERIES,
    MARKET_SOURCES,
    SOURCES_REFRESHED,
    bar_marks_key,
    observation_key,
    series_records_key,
    source_claim_key,
)
from marketswarm.pages import split_pages
from marketswarm.text import decode_text, parse_digits
from services.market.entries import encode_entry
from services.market.records import (
    DAY_MS,
    CorporateAction,
    Provenance,
    Record,
    RecordKind,
)
from services.sources.access.worker_thread import MANY_RECORDS, run_large
from services.sources.cascade.evaluation import encode_finding, encode_verdict, find_outcomes
from services.sources.cascade.published_actions import ActionKey, encode_identity, parse_bucket
from services.sources.cascade.series import Series, time_of
from services.sources.cascade.state import (
    WAITING,
    SeriesState,
    SourceFinding,
    clean_reason,
    forget_future,
    parse_series_state,
)
from services.sources.catalog.answer import SentRequest
from services.sources.catalog.mapping import find_known
from services.sources.settings import WorkSettings

PUBLISH: Final = Script.beside("services.sources.cascade", "publish_series.lua")
CHANGE_SOURCES: Final = Script.beside("services.sources.cascade", "change_sources.lua")
CLAIM_SEC: Final = 10.0
"""After how many seconds the claim of a dead process expires; a living one renews it."""
BUCKET_RECORDS: Final = 256
"""About how many records of a series are remembered together."""
MAX_BUCKET_BYTES: Final = 65_536
REMEMBERED_SEC: Final = 50 * 86_400
"""How long the published records are remembered of a series after its last load.

It is ten days less than bars keeps the state of a symbol: each load renews this time, also one with nothing
new, and only a new bar renews that of bars, which may be older by a weekend and holidays. So the whole
history is published again to a bars that has forgotten it, unless no bar came in the last ten days of loads.
"""
WITHIN_SEC: Final = 20.0
"""The time limit of publishing, because the first load of a series may have thousands of records."""
MAX_STATE_BYTES: Final = 64 * 1024
STATES_PER_READ: Final = 500
MAX_UNRECORDED: Final = 500
"""The requests of a series that are kept while they can't be recorded; older ones are dropped."""

STREAMS: Final[Mapping[RecordKind, str]] = {
    RecordKind.BARS: MARKET_BARS,
    RecordKind.QUOTES: MARKET_QUOTES,
    RecordKind.OBSERVATIONS: MARKET_OBSERVATIONS,
    RecordKind.ACTIONS: MARKET_ACTIONS,
}
OBSERVATION_SEC: Final = 7 * 86_400
"""How long the newest value of an economic series is kept under a key of its own after its last load."""
BUCKETS_PER_READ: Final = 100
WRITER: Final = "sources"
"""The name of this writer of the stream of bars, which has others."""
_IDENTITY: Final = re.compile(rb"([0-9a-f]{1,32})\|([^|;]{1,20})\|[^|;]{1,20};")
_PROVENANCE: Final = frozenset(
    {"source", "asked_at", "digest", "replay", "played_at", "rank", "adjustment", "volume_kind"}
)


@dataclass(frozen=True, slots=True)
class Claim:
    """Hold the right to load a series, until the load is published or the process dies."""

    series: str
    token: str


@dataclass(frozen=True, slots=True)
class Load:
    """Hold what one load of a series found, to be published in one step.

    `served` has the records to publish; None if no source answered. `withdrawn` are actions that were
    published, and are none any more. `id` is stored with the state of the
    series, so that it can be seen later whether this load was published. `remember_from_ms` is the time from
    which on records may be asked for again: older ones are not remembered. `is_complete` says of the minute
    of a stream whether none before it is missing; of other loads it is None.
    """

    series: Series
    state: SeriesState
    findings: tuple[SourceFinding, ...]
    served: SourceFinding | None
    requests: tuple[SentRequest, ...]
    remember_from_ms: int = 0
    is_complete: bool | None = None
    withdrawn: tuple[CorporateAction, ...] = ()
    id: str = field(default_factory=lambda: secrets.token_hex(8))


@dataclass(frozen=True, slots=True)
class UnrecordedRequest:
    """Hold the fields of a request that was sent, and is not known to be recorded.

    `loads` are the ids of the loads that were published with it, or not: a bus that did
    not answer may have done either. It is recorded if the last load of the series that was published is among
    them.
    """

    fields: bytes
    loads: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PublishResult:
    """Say how many records were new or changed, and whether the claim was lost and nothing was written.

    Of the records of the load, `known` were published before, and not forgotten since; of these, `corrected`
    have other values now and were published again, so they are counted in `new`, too. `outcomes` has the
    error of each source that failed, and None for each that is up.
    """

    new: int = 0
    outcomes: Mapping[str, str | None] = field(default_factory=dict)
    is_lost: bool = False
    known: int = 0
    corrected: int = 0


class SeriesStore:
    """Read and write what all instances share about series and sources.

    `get_bus` returns the bus of the market, and the key of a stream, as the truth in force names it.
    """

    def __init__(self, get_bus: Callable[[], Bus], find_stream: Callable[[str], str] = str) -> None:
        self._get_bus, self._find_stream = get_bus, find_stream
        self._unreleased: dict[str, Claim] = {}
        self._lengths: dict[str, StreamLength] = {}
        self._unrecorded: dict[str, tuple[Series, list[UnrecordedRequest]]] = {}

    @property
    def bus(self) -> Bus:
        return self._get_bus()

    async def claim(self, series: str) -> tuple[Claim | None, float]:
        """Return the claim of a series and 0; None and the seconds until it expires if another has it.

        A claim of this process that it could not release, since the bus failed, is its own again.
        """
        claim = self._unreleased.pop(series, None) or Claim(series, secrets.token_hex(8))
        is_mine, wait_sec = await self._use_or_keep(LeaseAction.TAKE, claim)
        return (claim if is_mine else None), wait_sec

    async def renew(self, claim: Claim) -> bool:
        """Renew a claim; return False if it was lost."""
        return (await self._use_claim(LeaseAction.RENEW, claim))[0]

    async def release(self, claim: Claim) -> None:
        await self._use_or_keep(LeaseAction.RELEASE, claim)

    async def _use_or_keep(self, action: LeaseAction, claim: Claim) -> tuple[bool, float]:
        """Use a claim; keep it for the next time if the bus fails, which may have it or not."""
        try:
            return await self._use_claim(action, claim)
        except BusError:
            self._unreleased[claim.series] = claim
            raise

    async def _use_claim(self, action: LeaseAction, claim: Claim) -> tuple[bool, float]:
        """Return whether this process has the claim after an action, and when another's expires."""
        key = source_claim_key(claim.series)
        holder, wait_sec = await apply_lease_action(self.bus, key, claim.token, action, life_sec=CLAIM_SEC)
        return holder == claim.token, wait_sec

    async def read_states(self, series: Iterable[str], now: float) -> dict[str, SeriesState]:
        """Return the stored state of each series; `WAITING` for one without a usable state.

        What was planned by a clock that was ahead of `now` (epoch seconds) is left out of it.
        """
        bus, found = self.bus, dict[str, SeriesState]()
        for page in split_pages(series, STATES_PER_READ):
            (stored,) = await read_fields(bus, [MARKET_SERIES], page, MAX_STATE_BYTES)
            for name in page:
                raw = stored.get(name.encode())
                found[name] = forget_future(parse_series_state(raw), now)
                if raw is not None and found[name] is WAITING:
                    report_unusable(bus.name, MARKET_SERIES, name)
        return found

    async def read_bar_times(self, series: Series, start_ms: int, end_ms: int) -> list[int]:
        """Return the times of a series' bars that were published, of all buckets from start to end."""
        width_ms, found = find_bucket_ms(series), list[int]()
        numbers = range(start_ms // width_ms, end_ms // width_ms + 1)
        for page in split_pages(map(str, numbers), BUCKETS_PER_READ):
            (buckets,) = await read_fields(
                self.bus, [series_records_key(series.id)], page, 2 * MAX_BUCKET_BYTES
            )
            for name, bucket in buckets.items():
                found += (int(name) * width_ms + int(each[1], 16) for each in _IDENTITY.finditer(bucket))
        return found

    async def forget_bars(self, series: Series, start_ms: int, end_ms: int) -> None:
        """Have the bars of a series from `start_ms` to `end_ms` published again when a source gives them."""
        width_ms, key = find_bucket_ms(series), series_records_key(series.id)
        numbers = range(start_ms // width_ms, end_ms // width_ms + 1)
        for page in split_pages(map(str, numbers), BUCKETS_PER_READ):
            (buckets,) = await read_fields(self.bus, [key], page, 2 * MAX_BUCKET_BYTES)
            for name, bucket in buckets.items():
                first_ms = int(name) * width_ms

                def forget(found: re.Match[bytes], first_ms: int = first_ms) -> bytes:
                    is_lost = start_ms <= first_ms + int(found[1], 16) <= end_ms
                    return b"%s|%s|lost;" % (found[1], found[2]) if is_lost else found[0]

                await self.bus.ask(self.bus.client.hset(key, name, _IDENTITY.sub(forget, bucket)))

    async def read_lost(self) -> LostSpan | None:
        """Return when the entries of bars were written that bars lost unread; None for nothing."""
        return await read_loss(self.bus, BARS_LOST, self._find_stream(MARKET_BARS), WRITER)

    async def settle_lost(self, span: LostSpan) -> None:
        """Note that all of that is forgotten here, and so is published again."""
        await settle_loss(self.bus, self._find_stream(MARKET_BARS), WRITER, span)

    async def read_mark(self, symbol: str) -> int | None:
        """Return the start of the minute up to which massive's stream of a symbol is complete."""
        key = bar_marks_key(self._find_stream(MARKET_BARS))
        (stored,) = await read_fields(self.bus, [key], [symbol], 16)
        return parse_digits(stored.get(symbol.encode()))

    async def read_published(self, series: Series) -> dict[ActionKey, str]:
        """Return the source of each action that was published and not withdrawn.

        It is empty for a source that the cascade does not name any more.
        """
        stored = await self.bus.ask(self.bus.client.hgetall(series_records_key(series.id)))
        names, width_ms = {make_source_id(each): each for each in series.sources}, find_bucket_ms(series)
        found: dict[ActionKey, str] = {}
        for name, bucket in stored.items():
            for key, source, digest in parse_bucket(name, bucket, width_ms):
                if digest != _digest_values(_encode_withdrawn(series, key)):
                    found[key] = names.get(source, "")
        return found

    @contextmanager
    def keep_requests(self, series: Series, sent: Iterable[SentRequest]) -> Iterator[None]:
        """Keep them for the next load of the series, which records them, if the block raises an error."""
        try:
            yield
        except BaseException:
            self._keep(series, [UnrecordedRequest(encode_request(series, each)) for each in sent])
            raise

    def list_unrecorded(self) -> list[Series]:
        """Return the series that have requests which wait for the next load to be recorded."""
        return [series for series, _ in self._unrecorded.values()]

    def _keep(self, series: Series, requests: Iterable[UnrecordedRequest]) -> None:
        _, before = self._unrecorded.get(series.id, (series, ()))
        if kept := [*before, *requests][-MAX_UNRECORDED:]:
            self._unrecorded[series.id] = series, kept

    async def publish(self, claim: Claim, load: Load, settings: WorkSettings) -> PublishResult:
        """Publish in one step, give the claim back, and record its requests and those of loads broken off."""
        series = load.series
        _, requests = self._unrecorded.pop(series.id, (series, []))
        requests += [UnrecordedRequest(encode_request(series, each)) for each in load.requests]
        try:
            result = await self._publish(claim, load, requests, settings)
        except BaseException:  # also if it was broken off, because the bus may have done it or not
            self._keep(series, [replace(each, loads=(*each.loads, load.id)) for each in requests])
            raise
        if result.is_lost:
            self._keep(series, requests)
        return result

    async def _publish(
        self, claim: Claim, load: Load, requests: Sequence[UnrecordedRequest], settings: WorkSettings
    ) -> PublishResult:
        """Run `publish_series.lua`."""
        series = load.series
        keys = [
            self._find_stream(STREAMS[series.kind]),
            series_records_key(series.id),
            self._find_stream(MARKET_DOWNLOADS),
            MARKET_SERIES,
            MARKET_SOURCES,
            source_claim_key(series.id),
        ]
        lengths = [
            await self._compute_length(keys[0], getattr(settings.keep, series.kind.value)),
            await self._compute_length(keys[2], settings.keep.downloads),
        ]
        served = load.served
        is_large = served is not None and len(served.records) > MANY_RECORDS
        withdrawn = load.withdrawn
        records = await run_large(
            is_large, lambda: list(encode_records(series, served, withdrawn)) if served else []
        )
        seen = [encode_finding(finding) for finding in load.findings]
        args: list[str | bytes | float] = [
            claim.token,
            series.id,
            load.id,
            load.state.encode(series),
            *lengths,
            load.remember_from_ms,
            find_bucket_ms(load.series),
            MAX_BUCKET_BYTES,
            REMEMBERED_SEC,
            make_source_id(load.served.source) if load.served else "",
            "".join(f" {make_source_id(source)} " for source in series.sources),
            len(records),
            *(part for record in records for part in record),
            len(requests),
            *(part for each in requests for part in (" ".join(each.loads), each.fields)),
            len(seen),
            *seen,
        ]
        reply = await self.bus.script(PUBLISH, keys, args, WITHIN_SEC)
        if len(reply) == 1:
            return PublishResult(is_lost=True)
        new, known, corrected, *refusals = reply
        await self._write_newest_observation(load)
        outcomes = find_outcomes(load.findings, refusals, settings.load.miss_after)
        return PublishResult(new, outcomes, known=known, corrected=corrected)

    async def _write_newest_observation(self, load: Load) -> None:
        """Write the newest value of an economic series under its key, which expires; an older part is none.

        A bus that fails now has the records already, and gets the key with the next load.
        """
        served, series = load.served, load.series
        if series.kind is not RecordKind.OBSERVATIONS or served is None or not served.records:
            return
        newest = max(served.records, key=lambda each: (time_of(each), find_known(each) or 0))
        if time_of(newest) < (load.state.newest_ms or 0):
            return
        encoded = encode_newest(series, served, newest)
        with suppress(BusError):
            await self.bus.ask(
                self.bus.client.set(observation_key(series.symbol), encoded, ex=OBSERVATION_SEC)
            )

    async def _compute_length(self, stream: str, keep: int) -> int:
        """Return to which length a stream is trimmed; massive writes bars, too."""
        writer = WRITER if stream == self._find_stream(MARKET_BARS) else ""
        length = self._lengths.setdefault(stream, StreamLength(BARS_READERS, writer))
        return await length.compute(self.bus, stream, keep)

    async def read_down(self, sources: Iterable[str]) -> dict[str, float]:
        """Return which of these sources are down, and when each answered or failed last (epoch seconds)."""
        names, found = list(sources), dict[str, float]()
        (stored,) = await read_fields(self.bus, [MARKET_SOURCES], names, MAX_STATE_BYTES) if names else ({},)
        for name, raw in stored.items():
            state = parse_object(raw)  # of one that can't be read, `publish_series.lua` restarts
            if state.get("state") == "down":
                at = state.get("checked_at")
                found[_decode(name)] = float(at) if isinstance(at, int | float) else 0.0
        return found

    async def drop_unnamed(self, sources: Collection[str], series: Collection[str]) -> None:
        """Delete the states of all sources and series but these, which the truth names."""
        bus = self.bus
        for key, named in ((MARKET_SOURCES, sources), (MARKET_SERIES, series)):
            gone = [name for name in await bus.ask(bus.client.hkeys(key)) if _decode(name) not in named]
            if gone:
                await bus.ask(bus.client.hdel(key, *gone))

    async def write_verdicts(self, states: Mapping[str, OutageState]) -> None:
        changes = [encode_verdict(name, state) for name, state in states.items()]
        await self.bus.script(CHANGE_SOURCES, [MARKET_SOURCES], changes)

    async def read_refreshed(self) -> float | None:
        """Return when the last refresh that was completed began, in epoch seconds; None if unknown."""
        bus = self.bus
        raw = await bus.ask(bus.client.get(SOURCES_REFRESHED))
        return parse_decimal(decode_text(raw), 0.001, MAX_EPOCH_SEC)

    async def write_refreshed(self, at: float) -> None:
        """Store when a refresh began that is complete now, in epoch seconds."""
        bus = self.bus
        await bus.ask(bus.client.set(SOURCES_REFRESHED, format(at, ".3f")))


def find_bucket_ms(series: Series) -> int:
    """Return the stretch of time whose records are remembered together, in milliseconds; 0 for quotes.

    Observations are a day apart, or more, actions most often a month.
    """
    if series.kind is RecordKind.QUOTES:
        return 0
    if series.kind is RecordKind.OBSERVATIONS:
        return BUCKET_RECORDS // 4 * DAY_MS
    if series.kind is RecordKind.ACTIONS:
        return BUCKET_RECORDS * 30 * DAY_MS
    return BUCKET_RECORDS * series.length_ms


def make_source_id(source: str) -> str:
    """Return a short name of a source, which stands with each record that it published."""
    return _make_digest(source.encode(), 3)


def _make_digest(data: bytes, size: int) -> str:
    return urlsafe_b64encode(hashlib.blake2b(data, digest_size=size).digest()).decode()


def _decode(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")


EncodedRecord = tuple[int, str, str, str, str]
"""Time, bucket and identity of a record, the digest of its values, and its fields as a JSON array."""


def encode_records(
    series: Series, served: SourceFinding, withdrawn: Collection[CorporateAction] = ()
) -> Iterable[EncodedRecord]:
    """Yield the records in the order of time.

    A record is identified by its time, an action also by its kind, a value that was revised since also by
    when it was known; a quote replaces the one before of its symbol. What is `withdrawn` replaces what was
    published. Where it came from is no part of the digest, because the same values from another source are
    not a change.
    """
    width_ms = find_bucket_ms(series)
    rank = series.sources.index(served.source) if served.source in series.sources else 0
    provenance = Provenance(
        served.source,
        served.asked_at,
        served.answer.digest,
        is_replay=served.answer.is_replay,
        played_at=served.answer.played_at,
        rank=rank,
        adjustment=served.answer.adjustment,
        volume_kind=served.answer.volume_kind,
    )
    records = sorted([*served.records, *withdrawn], key=lambda each: (time_of(each), find_known(each)))
    for record, following in zip_longest(records, records[1:]):
        fields = encode_entry(record, series.asset, provenance)
        fields["sym"] = series.name_entry(record.symbol)
        if served.day_end.is_utc:
            fields["other_hours"] = "1"
        at, known_ms = time_of(record), find_known(record)
        if isinstance(record, CorporateAction):
            identity = encode_identity(record, width_ms)
            if record in withdrawn:
                fields["withdrawn"] = "1"
        else:
            is_revised = known_ms and following is not None and time_of(following) == at
            version = f"{known_ms % 2**48:012x}" if is_revised else ""  # the script takes digits alone
            identity = f"{at % width_ms if width_ms else max(0, at):x}{version}"
        yield (
            at,
            str(at // width_ms) if width_ms else record.symbol,
            identity,
            _digest_values(fields),
            # as text, which is a copy, because what orjson returns takes 8 kB each for as long as it is kept
            orjson.dumps([text for pair in fields.items() for text in pair]).decode(),
        )


def encode_newest(series: Series, served: SourceFinding, newest: Record) -> bytes:
    """Return the fields of a record's entry as a JSON object of texts, times in epoch milliseconds."""
    provenance = Provenance(
        served.source,
        served.asked_at,
        served.answer.digest,
        is_replay=served.answer.is_replay,
        played_at=served.answer.played_at,
    )
    return orjson.dumps(encode_entry(newest, series.asset, provenance))


def _encode_withdrawn(series: Series, key: ActionKey) -> dict[str, str]:
    """Return the fields of an action that is withdrawn, without where that came from."""
    day, kind = key
    action = CorporateAction(series.symbol, kind, day)
    return encode_entry(action, series.asset, Provenance("")) | {"withdrawn": "1"}


def _digest_values(fields: Mapping[str, str]) -> str:
    """Return the digest of what a record says, without where it came from."""
    values = [pair for pair in fields.items() if pair[0] not in _PROVENANCE]
    return _make_digest(orjson.dumps(values), 6)


def encode_request(series: Series, sent: SentRequest) -> bytes:
    """Return the fields of a request's entry as a JSON array."""
    fields: dict[str, Any] = {
        "source": sent.source,
        "series": series.id,
        "symbol": series.symbol,
        "kind": series.kind.value,
        "timeframe": series.timeframe,
        "asked_at": format(sent.asked_at, ".3f"),
        "took_ms": str(round(1000 * sent.took_sec)),
        "url": sent.url[:2000],
        "status": str(sent.status),
        "outcome": sent.outcome.value,
        "reason": clean_reason(sent.reason),
        "digest": hashlib.sha256(sent.body).hexdigest() if sent.body else "",
        "bytes": str(len(sent.body)),
        "records": str(sent.records),
    }
    if sent.is_replay:
        fields["replay"] = "1"
    return orjson.dumps([text for pair in fields.items() for text in pair])
