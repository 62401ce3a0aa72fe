"""Implement `marketswarm source list`, `source show` and `source try`."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.table import Table

from marketswarm.cli import event_loop, output, tables
from marketswarm.cli.options import Json
from marketswarm.exit import Code, Exit
from marketswarm.text import escape_text
from marketswarm.truth import find_nearest
from services.sources.account import Permission
from services.sources.catalog import CatalogError, load_source, shipped_catalog
from services.sources.client import Exchange, SourceAnswer, SourceClient
from services.sources.keys import read_keys
from services.sources.records import AnswerStatus, Record, RecordKind
from services.sources.request import ApiKey, Question
from services.sources.source import Auth, AuthPlace, Limits, MarketSource
from services.sources.trial import make_questions

DID_NOT_FIT: Final = 1
"""The exit code when an answer is not all that the source's file says."""
_RAW_LETTERS: Final = 2_000
_MISFITS_SHOWN: Final = 5

Name = Annotated[
    str,
    typer.Argument(metavar="NAME", help="A source of `marketswarm source list`, or a TOML file of yours."),
]


@dataclass(frozen=True, slots=True)
class Trial:
    """Hold what came of one question to one endpoint."""

    endpoint: str
    question: Question
    answer: SourceAnswer
    exchanges: tuple[Exchange, ...]


class _NoLimits:
    """Lets every request pass: a person who tries a source sends a few."""

    async def take_request(self, _key: ApiKey | None, _windows: Sequence[tuple[int, int]]) -> Permission:
        """Let it pass."""
        return Permission()

    async def block(self, _key: ApiKey | None, _sec: float, _windows: Sequence[tuple[int, int]]) -> None:
        """Forget it; the answer says it."""


def list_(as_json: Json = False) -> None:
    """List the sources of the catalogue: what each serves, and whether it has the key that it needs."""
    sources = list(shipped_catalog().values())
    keys = read_keys(sources, os.environ)
    if as_json:
        output.print_json([_summarize(source, has_key=source.name in keys) for source in sources])
        return
    table = Table(box=None, pad_edge=False, header_style="dim")
    for head in ("source", "serves", "of", "key", "tried"):
        table.add_column(head, overflow="fold")
    for source in sources:
        summary = _summarize(source, has_key=source.name in keys)
        words = [", ".join(summary[what]) for what in ("kinds", "assets")]
        table.add_row(source.name, *words, _describe_key(source, has_key=source.name in keys), source.tried)
    tables.print_drawing(table)
    output.print_line(f"{len(sources)} sources; `marketswarm source try NAME` asks one")


def show(name: Name, as_json: Json = False) -> None:
    """Show what the catalogue says of a source: its limits, what it serves, and which pages say so."""
    source = _find_source(name)
    if as_json:
        output.print_json(source.model_dump(mode="json"))
        return
    output.print_line(f"{source.name}: {source.title}")
    for page in source.docs:
        output.print_line(f"  mapped by {page}")
    output.print_line(f"  tried with this file: {source.tried}")
    if source.terms:
        output.print_line(f"  {source.terms}")
    has_key = source.name in read_keys([source], os.environ)
    output.print_line(f"  key: {_describe_key(source, has_key=has_key)}")
    output.print_line(f"  limits: {_describe_limits(source.limits)}")
    for endpoint_name, endpoint in source.serves.items():
        assets, timeframes = ", ".join(endpoint.assets), ", ".join(endpoint.timeframes)
        output.print_line(
            f"  {endpoint_name}: {endpoint.kind} of {assets}{timeframes and f' in {timeframes}'}"
        )


def try_(
    name: Name,
    symbol: Annotated[
        str | None,
        typer.Argument(metavar="[SYMBOL]", help="SPY, EUR/USD, BTC/USDT, US.CPI; else one it has."),
    ] = None,
    *,
    only: Annotated[
        str | None, typer.Option("--only", metavar="ENDPOINT", help="Ask this question alone.")
    ] = None,
    timeframe: Annotated[
        str | None, typer.Option("--timeframe", metavar="1m", help="Of bars; else the first that it has.")
    ] = None,
    raw: Annotated[bool, typer.Option("--raw", help="Show the beginning of each answer as it came.")] = False,
    base_url: Annotated[
        str | None,
        typer.Option("--base-url", metavar="URL", help="Ask there instead: a proxy, or a stand-in of yours."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Ask the real source one small question of each kind, and show what came and what did not fit.

    Its key is read from the variable that its file names. Ends with 1 if something is wrong or does not fit.
    """
    source = _find_source(name)
    keys = read_keys([source], os.environ)
    if source.auth.env and not source.auth.optional and source.name not in keys:
        raise Exit(Code.CONFIGURATION, f"{source.name} needs a key: put it into {source.auth.env}")
    questions = [
        found
        for found in make_questions(source, symbol, timeframe, datetime.now(UTC))
        if only in (None, found[0])
    ]
    if not questions:
        asked = symbol or "a symbol that is not given"
        raise Exit(Code.CONFIGURATION, f"{source.name} serves nothing of {asked}: see `source show {name}`")
    trials = event_loop.run(_ask_all(source, keys, questions, base_url))
    if as_json:
        output.print_json([_to_json(trial) for trial in trials])
    else:
        for trial in trials:
            _print_trial(trial, keys.get(source.name, ()), raw=raw)
    if any(trial.answer.outcome is not AnswerStatus.OK or trial.answer.misfits for trial in trials):
        raise Exit(DID_NOT_FIT, "")


def _find_source(name: str) -> MarketSource:
    """Return the source of this name, or of the TOML file at this path. Raise Exit, code 2, for another."""
    catalog = shipped_catalog()
    if name in catalog:
        return catalog[name]
    if name.endswith(".toml"):
        try:
            return load_source(Path(name))
        except CatalogError as error:
            raise Exit(Code.CONFIGURATION, str(error)) from None
    nearest = find_nearest(name, catalog)
    hint = f"; is it {nearest}?" if nearest else "; `marketswarm source list` has them all"
    raise Exit(Code.CONFIGURATION, f"there is no source {name}{hint}")


async def _ask_all(
    source: MarketSource,
    keys: Mapping[str, Sequence[ApiKey]],
    questions: Sequence[tuple[str, Question]],
    base_url: str | None,
) -> list[Trial]:
    """Ask one question after the other."""
    exchanges: list[Exchange] = []
    trials = []
    base_urls = {} if base_url is None else {source.name: base_url.rstrip("/")}
    async with SourceClient(keys, base_urls, exchanges.append) as client:
        for name, question in questions:
            answer = await client.ask_endpoint(source, _NoLimits(), source.serves[name], question)
            trials.append(Trial(name, question, answer, tuple(exchanges)))
            exchanges.clear()
    return trials


def _print_trial(trial: Trial, keys: Sequence[ApiKey], *, raw: bool) -> None:
    """Print what was asked, what came, what was mapped, and what did not fit."""
    answer, question = trial.answer, trial.question
    is_good = answer.outcome is AnswerStatus.OK and not answer.misfits
    mark, style = ("✓", output.GREEN) if is_good else ("✗", output.RED)
    what = f"{question.kind} of {question.symbol}{question.timeframe and f' in {question.timeframe}'}"
    result = answer.outcome.value + (f", {answer.reason}" if answer.reason else "")
    counted = f", {len(answer.records):,} records" if answer.records else ""
    missing = f", {answer.missing:,} without a value" if answer.missing else ""
    output.print_line(escape_text(f"{mark} {trial.endpoint}: {what}: {result}{counted}{missing}"), style)
    for each in trial.exchanges:
        came = f"{each.status or 'nothing'}, {len(each.body):,} bytes in {each.took_sec:.2f} s"
        output.print_line(escape_text(f"    asked {each.url}: {came}"))
        if raw:
            output.print_line(escape_text(f"    came {_hide_keys(each.body, keys)}"))
    for word, record in zip(("first", "last"), (answer.records[:1] + answer.records[1:][-1:]), strict=False):
        output.print_line(escape_text(f"    {word} {_describe_record(record)}"))
    for misfit in answer.misfits[:_MISFITS_SHOWN]:
        output.print_line(escape_text(f"    row {misfit.row} does not fit: {misfit.field}: {misfit.why}"))
    if len(answer.misfits) > _MISFITS_SHOWN:
        output.print_line(f"    and {len(answer.misfits) - _MISFITS_SHOWN} more")


def _hide_keys(body: bytes, keys: Sequence[ApiKey]) -> str:
    """Return the beginning of an answer, without the keys that some sources repeat in it."""
    text = body.decode("utf-8", "replace")
    for secret in (part for key in keys for part in (key.key, key.secret) if part):
        text = text.replace(secret, "KEY")
    return text[:_RAW_LETTERS] + ("…" if len(text) > _RAW_LETTERS else "")


def _describe_record(record: Record) -> str:
    """Return a record on one line, times in UTC, without what the source does not say."""
    words = []
    for name, value in asdict(record).items():
        if value is not None and name.endswith("_ms"):
            words.append(datetime.fromtimestamp(value / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S"))
        elif value is not None and name not in ("symbol", "timeframe"):
            words.append(f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}")
    return " ".join(words)


def _to_json(trial: Trial) -> dict[str, Any]:
    """Return a trial as a JSON object."""
    answer, question = trial.answer, trial.question
    return {
        "endpoint": trial.endpoint,
        "kind": question.kind.value,
        "asset": question.asset.value,
        "symbol": question.symbol,
        "timeframe": question.timeframe,
        "outcome": answer.outcome.value,
        "reason": answer.reason,
        "records": len(answer.records),
        "missing": answer.missing,
        "misfits": [asdict(misfit) for misfit in answer.misfits],
        "first": asdict(answer.records[0]) if answer.records else None,
        "last": asdict(answer.records[-1]) if answer.records else None,
        "requests": [
            {
                "url": each.url,
                "status": each.status,
                "bytes": len(each.body),
                "took_sec": round(each.took_sec, 3),
            }
            for each in trial.exchanges
        ],
    }


def _summarize(source: MarketSource, *, has_key: bool) -> dict[str, Any]:
    """Return what the list says of a source."""
    endpoints = source.serves.values()
    return {
        "name": source.name,
        "title": source.title,
        "kinds": [kind.value for kind in RecordKind if any(each.kind is kind for each in endpoints)],
        "assets": list(dict.fromkeys(asset.value for each in endpoints for asset in each.assets)),
        "key": source.auth.env or None,
        "has_key": has_key,
        "is_key_optional": source.auth.place is AuthPlace.NONE or source.auth.optional,
        "tried": source.tried,
        "docs": list(source.docs),
    }


def _describe_key(source: MarketSource, *, has_key: bool) -> str:
    """Return in words whether a source needs a key, and where it is looked for."""
    auth: Auth = source.auth
    if auth.place is AuthPlace.NONE:
        return "none needed"
    state = "set" if has_key else "not set, not needed" if auth.optional else "not set"
    return f"{auth.env} ({state})"


def _describe_limits(limits: Limits) -> str:
    """Return in words how many requests a source takes."""
    units = {1: "second", 60: "minute", 3600: "hour", 86_400: "day", 30 * 86_400: "month"}
    return ", ".join(f"{count:,} a {units[sec]}" for sec, count in limits.windows()) or "none known"
