"""Implement `marketswarm backtest orders` and `run`."""

import contextlib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Final

import orjson
import typer
from pydantic import SecretStr

from marketswarm.cli import event_loop, output
from marketswarm.cli.data_folder import DATA, read_database
from marketswarm.cli.fleet_view import FleetView, ask_or_explain
from marketswarm.cli.options import Data, Json, OptionGroup, argument, option
from marketswarm.cli.tables import show
from marketswarm.exit import Exit, Mistake
from marketswarm.postgres.errors import PostgresAwayError
from marketswarm.postgres.pool import open_connection
from marketswarm.settings import CommonSettings, read_settings
from services.market.records import TIMEFRAMES
from services.market.universe import list_named_sessions
from services.signals.audit import AuditCheck, audit_case
from services.signals.backtest import describe_result, play_case
from services.signals.cases import CaseError, read_case
from services.signals.history import (
    BacktestHistory,
    HistoryError,
    TradingRules,
    read_archive,
    read_files,
)
from services.signals.lookahead import audit_run
from services.signals.page import describe_played, list_totals, render_page
from services.signals.report import BacktestReport, BacktestRequest, ReportError
from services.signals.run import OnProgress, run_backtest
from services.signals.strategy import (
    Strategy,
    StrategyError,
    list_installed,
    load_file,
    load_installed,
    read_number,
)
from services.tables.adjusted_bars import Adjust

FAILED: Final = 1
"""The exit code if the database can't be read, or an audit found what does not hold."""
_READ_SEC: Final = 3600.0
_SHOWN_FILLS: Final = 10
_LEAST_STEP: Final = Decimal("0.00000001")
_MOST_STEP: Final = Decimal(1_000_000)


class BacktestEnvironment(CommonSettings):
    """The variables of the command."""

    database_url: SecretStr | None = None


def _make_account(
    *,
    cash: Annotated[str, option("--cash", "100000", "The money at the start.")] = "100000",
    currency: Annotated[str, option("--currency", "USD", "Its currency.")] = "USD",
    leverage: Annotated[
        str | None,
        option(
            "--leverage", "2", "A margin account: positions worth so many times the equity, short ones too."
        ),
    ] = None,
    borrow_rate: Annotated[
        str, option("--borrow-rate", "0.03", "What short positions cost a year, as a share of their value.")
    ] = "0",
    volume_share: Annotated[
        str | None, option("--volume-share", "0.1", "The most of a bar's volume that orders fill.")
    ] = None,
    slippage: Annotated[
        str, option("--slippage", "0.0005", "What market and stop orders pay more, as a share of the price.")
    ] = "0",
    slippage_ticks: Annotated[str, option("--slippage-ticks", "1", "The same in ticks, added to it.")] = "0",
    periods: Annotated[
        str | None,
        option("--periods", "252", "Bars of a year, for the Sharpe ratio; by default by timeframe."),
    ] = None,
) -> dict[str, Any]:
    """Return the account of a request; options that are not given are absent."""
    found = {"cash": cash, "currency": currency, "borrow_rate": borrow_rate, "type": "cash"}
    found |= {"slippage": slippage, "slippage_ticks": slippage_ticks}
    if leverage is not None:
        found |= {"type": "margin", "leverage": leverage}
    if volume_share is not None:
        found["volume_share"] = volume_share
    if periods is not None:
        found["periods_per_year"] = periods
    return found


def _make_fee(
    percent: Annotated[str, option("--fee-percent", "0.1", "The fee in percent of what is traded.")] = "0",
    per_share: Annotated[str, option("--fee-per-share", "0.005", "The fee of one share.")] = "0",
    least: Annotated[str, option("--fee-min", "1", "The least fee of an order.")] = "0",
) -> dict[str, Any]:
    return {"percent": percent, "per_share": per_share, "min_per_order": least}


def _make_trading_rules(
    tick: Annotated[
        str | None, option("--tick", "0.01", "The least step of prices; by default by the oldest bars.")
    ] = None,
    lot: Annotated[
        str | None, option("--lot", "1", "The least quantity; by default 1, of coins 0.00000001.")
    ] = None,
    session: Annotated[
        str | None,
        option("--session", "XNYS", "When the symbols trade; by default as the truth has it, or by class."),
    ] = None,
) -> TradingRules:
    return TradingRules(_read_step("--tick", tick), _read_step("--lot", lot), session)


def _read_step(name: str, text: str | None) -> Decimal | None:
    step = None if text is None else read_number(text)
    if text is not None and (step is None or not _LEAST_STEP <= step <= _MOST_STEP):
        raise typer.BadParameter(
            f"{text[:40]!r} is no number from {_LEAST_STEP:f} to {_MOST_STEP:f}", param_hint=name
        )
    return step


AccountOptions = Annotated[dict[str, Any], OptionGroup.of(_make_account)]
FeeOptions = Annotated[dict[str, Any], OptionGroup.of(_make_fee)]
Audit = Annotated[
    bool, typer.Option("--audit", help="Change the input in twelve ways, and check what must follow.")
]
RulesOptions = Annotated[TradingRules, OptionGroup.of(_make_trading_rules)]


def orders(
    folder: Annotated[Path, argument("FOLDER", "The folder with case.json, bars.csv and orders.csv.")],
    *,
    variant: Annotated[
        str | None, option("--variant", "NAME", "Play it with the account of this variant.")
    ] = None,
    audit: Audit = False,
    as_json: Json = False,
) -> None:
    """Fill orders by bars, and show the fills, what was refused and the account.

    It needs no fleet. docs/services/engine.md has the form of the files and each rule by which orders fill.
    With --audit it ends with code 1 if a law does not hold.
    """
    try:
        case = read_case(folder, variant)
    except CaseError as error:
        raise Mistake(str(error)) from None
    periods = case.account.periods_per_year
    answer = describe_result(play_case(case), None if periods is None else float(periods))
    checks = audit_case(case) if audit else []
    if as_json:
        output.print_json(answer | _describe_audit(checks))
    else:
        _show_answer(answer)
        _show_audit(checks)
    _require_laws(checks)


def _show_answer(answer: dict[str, Any]) -> None:
    columns = ("at", "order", "symbol", "side", "qty", "price", "fee")
    show(answer["fills"], {name: _cell(name) for name in columns}, empty="no order was filled")
    if answer["refused"]:
        output.print_line("")
        show(answer["refused"], {name: _cell(name) for name in ("at", "order", "reason")})
    output.print_line("")
    for name, value in answer["totals"].items():
        shown = f"{value:.4f}" if isinstance(value, float) else "unknown" if value is None else value
        output.print_line(f"{name.replace('_', ' '):15} {shown}")


def _describe_audit(checks: Sequence[AuditCheck]) -> dict[str, Any]:
    rows = [{"law": str(each.law), "holds": each.holds, "found": each.found} for each in checks]
    return {"audit": rows} if rows else {}


def _require_laws(checks: Sequence[AuditCheck]) -> None:
    """Raise Exit, code FAILED, if a law does not hold."""
    if broken := [str(each.law) for each in checks if each.holds is False]:
        raise Exit(FAILED, f"what must follow does not: {', '.join(broken)}")


def _show_audit(checks: Sequence[AuditCheck]) -> None:
    if checks:
        output.print_line("")
    for each in checks:
        holds = "does not apply" if each.holds is None else "holds" if each.holds else "BROKEN"
        output.print_line(f"{each.law:18} {holds}{': ' if each.found else ''}{each.found}")


def _cell(name: str) -> Any:
    return lambda row: row[name]


def run_strategy(
    strategy: Annotated[
        str, argument("STRATEGY", f"A file of yours, or one of {', '.join(list_installed())}.")
    ],
    *,
    symbols: Annotated[list[str], option("--symbols", "SPY,QQQ", "What it may trade; may be given again.")],
    since: Annotated[str, option("--from", "2024-01-02", "The first trading day.")],
    until: Annotated[str, option("--to", "2024-12-31", "The last trading day.")],
    timeframe: Annotated[str, option("--timeframe", "1d", f"One of {', '.join(TIMEFRAMES)}.")] = "1d",
    adjust: Annotated[
        Adjust, typer.Option(help="For which actions the prices are adjusted that the strategy sees.")
    ] = Adjust.SPLITS,
    param: Annotated[
        list[str] | None, option("--param", "NAME=VALUE", "A parameter of the strategy; may be given again.")
    ] = None,
    account: AccountOptions,
    fee: FeeOptions,
    rules: RulesOptions,
    bars: Annotated[
        Path | None, option("--bars", "FILE", "Bars of a CSV file, in the place of the archive.")
    ] = None,
    actions: Annotated[
        Path | None, option("--actions", "FILE", "With --bars: their splits and dividends, a list in JSON.")
    ] = None,
    html: Annotated[Path | None, option("--html", "FILE", "Write the report as a page, too.")] = None,
    audit: Audit = False,
    data: Data = DATA,
    as_json: Json = False,
) -> None:
    """Play a strategy over bars of the past, and report what came of it. Nothing is traded.

    Bars and actions are those of the archive: of DATABASE_URL, or of the fleet in the folder --data. The
    strategy's file is run with your rights. docs/services/backtest.md explains the report, and how to write
    a strategy. With --audit it ends with code 1 if a law does not hold.
    """
    try:
        with contextlib.redirect_stdout(sys.stderr):  # what a strategy prints is no part of the report
            loaded = _load_strategy(strategy)
        names = tuple(each.strip() for given in symbols for each in given.split(","))
        request = BacktestRequest.from_document(
            {
                "strategy": loaded.name,
                "parameters": _read_parameters(param or ()),
                "symbols": names,
                "from": since,
                "to": until,
                "timeframe": timeframe,
                "adjust": adjust,
                "account": account,
                "fee": fee,
            }
        )
        loaded.complete(request.parameters)  # what is wrong is said before anything is read
        history = _read_history(request, bars, actions, rules, data)
        with _show_progress() as on_progress, contextlib.redirect_stdout(sys.stderr):
            report = run_backtest(request, history, strategy=loaded, on_progress=on_progress)
            checks = audit_run(request, history, loaded) if audit else []
    except (ReportError, StrategyError, HistoryError, CaseError) as error:
        raise Mistake(str(error)) from None
    except KeyboardInterrupt:
        raise Exit(event_loop.INTERRUPTED, "interrupted: there is no report") from None
    if html is not None:
        _write_page(html, report)
    if as_json and audit:
        output.print_json({**orjson.loads(report.to_json()), **_describe_audit(checks)})
    elif as_json:
        output.print_json_bytes(report.to_json())
    else:
        _print_report(report, html)
        _show_audit(checks)
    _require_laws(checks)


def _load_strategy(name: str) -> Strategy:
    is_file = name.endswith(".py") or "/" in name
    return load_file(Path(name)) if is_file else load_installed(name)


def _read_parameters(given: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for text in given:
        name, is_pair, value = text.partition("=")
        if not is_pair or not name or name in found:
            raise ReportError(f"--param {text[:80]!r}: must be NAME=VALUE, each name once")
        found[name] = value
    return found


def _read_history(
    request: BacktestRequest, bars: Path | None, actions: Path | None, rules: TradingRules, data: Path
) -> BacktestHistory:
    if bars is not None:
        return read_files(bars, request.symbols, rules, actions)
    if actions is not None:
        raise HistoryError("--actions: only with --bars; the archive has its own")
    url = read_settings(BacktestEnvironment).database_url
    address = read_database(data)[0] if url is None else url.get_secret_value()
    if rules.session is None:
        rules = replace(rules, sessions=_read_sessions(data))

    async def read() -> BacktestHistory:
        async with open_connection(address, _READ_SEC) as connection:
            days = request.first_day, request.last_day
            return await read_archive(connection, request.symbols, request.timeframe, days, rules)

    try:
        return event_loop.run(read())
    except PostgresAwayError as error:
        raise Exit(FAILED, str(error)) from None


def _read_sessions(data: Path) -> Mapping[str, str]:
    """Return the sessions that the truth of the fleet names, by symbol.

    A person is told if that can't be read: the archive may be there without its fleet.
    """

    async def read(fleet: FleetView) -> Mapping[str, str]:
        return list_named_sessions(fleet.truth)

    def explain(why: str) -> Mapping[str, str]:
        reason = why.partition("\n")[0].removesuffix(" Tried:").rstrip(".")
        output.print_aside(f"{reason}: each symbol trades in the session of its class, or in --session")
        return {}

    return event_loop.run(ask_or_explain(data, read, explain))


@contextlib.contextmanager
def _show_progress() -> Iterator[OnProgress | None]:
    """Show a bar while the block runs, on stderr, if that is a terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console  # noqa: PLC0415 - only for a terminal
    from rich.progress import Progress  # noqa: PLC0415 - as above

    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("closes", total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


def _write_page(file: Path, report: BacktestReport) -> None:
    try:
        file.write_text(render_page(report), "utf-8")
    except OSError as error:
        raise Mistake(f"{file}: {error.strerror or error}") from None


def _print_report(report: BacktestReport, html: Path | None) -> None:
    request = report.request
    output.print_line(report.hypothetical, output.YELLOW)
    output.print_line(f"{request.strategy}: {report.title}")
    span = f"{request.first_day} to {request.last_day}"
    output.print_line(f"{', '.join(request.symbols)}, {request.timeframe}, {span}, from {report.source}")
    output.print_line("")
    columns: dict[str, Callable[[tuple[str, str, str]], str]] = {
        f"in {request.account.currency}": lambda row: row[0],
        "strategy": lambda row: row[1],
        "buy and hold": lambda row: row[2],
    }
    show(list_totals(report), columns, right=("strategy", "buy and hold"))
    output.print_line("")
    output.print_line(describe_played(report))
    for warning in report.warnings:
        output.print_line(f"! {warning}", output.YELLOW)
    if report.fills:
        output.print_line("")
        names = ("at", "order", "symbol", "side", "qty", "price", "fee")
        shown = report.fills[-_SHOWN_FILLS:]
        show(shown, {name: _attribute(name) for name in names}, right=("qty", "price", "fee"))
        if len(shown) < report.counts.fills:
            output.print_line(
                f"the last {len(shown)} of {report.counts.fills:,} fills; --html or --json has more"
            )
    output.print_line("")
    output.print_line("It assumes:")
    output.print_lines(f"- {each}" for each in report.assumptions)
    output.print_line("")
    output.print_line(f"result {report.digest}", output.DIM)
    if html is not None:
        output.print_line(f"wrote {html}")


def _attribute(name: str) -> Callable[[Any], str]:
    return lambda row: str(getattr(row, name))
