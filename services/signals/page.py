"""Write a report as one HTML file that needs nothing else: no script, no network. Pure.

Every text is escaped, ours too.
"""

from collections.abc import Iterable, Sequence
from html import escape
from typing import Final

from services.signals.charts import ChartLine, FillMark, draw_chart
from services.signals.report import BacktestReport, ReportFill

MAX_LISTED: Final = 500
"""The most fills, and the most refusals, of the page; `--json` has them all."""
_STYLE: Final = """
:root { color-scheme: light dark; --ink: #1c2430; --soft: #5b6675; --line: #d9dee5; --back: #fff;
  --box: #f5f7fa; --one: #1f5fbf; --two: #9a6b00; --bad: #b3261e; --good: #1a7f4b; --warn: #fff4d6; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ee; --soft: #a3adba; --line: #38414d;
  --back: #14181d; --box: #1c2229; --one: #7fb0ff; --two: #e0b050; --bad: #ff8a80; --good: #6fd3a0;
  --warn: #3a3114; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1040px; padding: 24px 20px 60px; background: var(--back);
  color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 24px; margin: 0 0 4px; } h2 { font-size: 17px; margin: 32px 0 8px; }
p { margin: 4px 0; } .soft { color: var(--soft); }
.mono { font-family: ui-monospace, monospace; font-size: 12px; overflow-wrap: anywhere; }
.note, .warn { background: var(--box); border-left: 4px solid var(--soft); padding: 8px 12px;
  margin: 14px 0; }
.warn { background: var(--warn); border-color: var(--two); }
.warn ul { margin: 4px 0; padding-left: 20px; }
svg { width: 100%; height: auto; display: block; background: var(--box); border-radius: 4px; }
.grid { stroke: var(--line); stroke-width: 1; }
.axis { fill: var(--soft); font: 11px system-ui, sans-serif; }
.line { fill: none; stroke-width: 1.8; stroke-linejoin: round; } .line.one { stroke: var(--one); }
.line.two { stroke: var(--two); stroke-dasharray: 5 3; }
.area.one { fill: var(--one); fill-opacity: .3; stroke: var(--one); }
.line.price { stroke: var(--soft); stroke-width: 1.3; }
.mark.buy { fill: var(--good); } .mark.sell { fill: var(--bad); }
.legend { color: var(--soft); font-size: 13px; margin: 6px 0; }
.key { display: inline-block; width: 22px; border-top: 3px solid var(--one); vertical-align: middle;
  margin: 0 6px 0 14px; }
.key.two { border-top: 3px dashed var(--two); } .key:first-child { margin-left: 0; }
.buy-text { color: var(--good); } .sell-text { color: var(--bad); }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: 4px 12px 4px 0; border-bottom: 1px solid var(--line);
  white-space: nowrap; }
th { font-weight: 600; color: var(--soft); font-size: 13px; } td.number, th.number { text-align: right; }
td.number + td, th.number + th { padding-left: 16px; }
ol { padding-left: 22px; margin: 6px 0; }
"""
_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'"
"""What the page may load: nothing, and it runs no script."""
_LEGEND: Final = (
    '<p class="legend"><span class="key"></span>strategy<span class="key two"></span>buy and hold</p>'
)
_FILL_LEGEND: Final = (
    '<p class="legend"><span class="buy-text">▲ bought</span> <span class="sell-text">▼ sold</span>, '
    "at prices as traded</p>"
)
_BY_HAND: Final = (
    "<p class=soft>To check one by hand: take the bar of its symbol that begins at “bar from”. A market "
    "order has that bar's open; docs/services/engine.md has the rules of all orders.</p>"
)
_TOTALS: Final = (
    ("Final equity", "final_equity"),
    ("Return", "total_return"),
    ("Greatest drawdown", "max_drawdown"),
    ("Sharpe ratio", "sharpe"),
    ("Time in the market", "time_in_market"),
    ("Mean exposure", "gross_exposure"),
    ("Gains realised, before fees", "realised"),
    ("Gains not realised", "unrealised"),
    ("Dividends", "dividends"),
)
_COSTS: Final = (("Fees", "fees"), ("Borrowing", "borrow"))
_SHARES: Final = frozenset({"total_return", "max_drawdown", "time_in_market", "gross_exposure"})


def render_page(report: BacktestReport) -> str:
    """Return the page of a report."""
    request = report.request
    head = f"Backtest of {request.strategy}: {', '.join(request.symbols)}"
    when = f"{request.first_day} to {request.last_day}, bars of {request.timeframe} from {report.source}"
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
        f"<title>{escape(head)}</title><style>{_STYLE}</style></head><body>",
        f"<h1>{escape(head)}</h1>",
        f"<p>{escape(report.title)}</p>",
        f'<p class="soft">{escape(when)}</p>',
        f'<p class="note"><strong>{escape(report.hypothetical)}</strong></p>',
        _render_list("warn", "What speaks against believing it:", report.warnings),
        _render_totals(report),
        *_render_charts(report),
        *_render_prices(report),
        _render_fills(report),
        _render_refusals(report),
        _render_assumptions(report),
        _render_request(report),
        "</body></html>\n",
    ]
    return "\n".join(each for each in parts if each)


def format_total(name: str, value: str | float | None) -> str:
    """Return a total for people: a share of one in percent, money with its thousands apart."""
    if value is None:
        return "unknown"
    if isinstance(value, str):
        return format_money(value)
    return f"{100 * value:.2f} %" if name in _SHARES else f"{value:.2f}"


def format_money(text: str) -> str:
    """Return decimal text with its thousands apart, and two decimals: those beyond are cut."""
    sign = "-" if text.startswith("-") else ""
    whole, _, decimals = text.removeprefix("-").partition(".")
    return f"{sign}{int(whole):,}.{decimals[:2].ljust(2, '0')}"


def _render_list(style: str, head: str, lines: Sequence[str]) -> str:
    if not lines:
        return ""
    items = "".join(f"<li>{escape(line)}</li>" for line in lines)
    return f'<div class="{style}"><strong>{escape(head)}</strong><ul>{items}</ul></div>'


def list_totals(report: BacktestReport) -> list[tuple[str, str, str]]:
    """Return the totals in words: their names, those of the strategy and those of buy and hold."""
    mine, held = report.totals, report.buy_and_hold
    return [
        (label, format_total(name, getattr(mine, name)), format_total(name, getattr(held, name)))
        for label, name in (*_TOTALS, *_COSTS)
    ]


def describe_played(report: BacktestReport) -> str:
    """Return what a run had, in a sentence."""
    counts = report.counts
    won = f" ({counts.winners:,} with a gain)" if counts.trades else ""
    return (
        f"{counts.trades:,} closed trades{won}, {counts.fills:,} fills of {counts.orders:,} orders, "
        f"{counts.decisions:,} closes, {counts.bars:,} bars."
    )


def _render_totals(report: BacktestReport) -> str:
    money = f"Result, in {report.request.account.currency}"
    table = _render_table((money, "Strategy", "Buy and hold"), list_totals(report), numbers=(1, 2))
    return f"<h2>Result and costs</h2>{table}<p class=soft>{escape(describe_played(report))}</p>"


def _render_charts(report: BacktestReport) -> list[str]:
    points = report.points
    times = [each.at for each in points]
    equity = [
        ChartLine("strategy", "one", [float(each.equity) for each in points]),
        ChartLine("buy and hold", "two", [float(each.buy_and_hold) for each in points]),
    ]
    drawdown = [
        ChartLine("strategy", "one", [-100 * each.drawdown for each in points], is_area=True),
        ChartLine("buy and hold", "two", [-100 * each.buy_and_hold_drawdown for each in points]),
    ]
    exposure = [ChartLine("strategy", "one", [100 * each.exposure for each in points], is_area=True)]
    return [
        "<h2>Equity</h2>",
        _LEGEND,
        draw_chart("Equity", times, equity),
        "<h2>Drawdown, percent below the highest close before</h2>",
        _LEGEND,
        draw_chart("Drawdown", times, drawdown, unit=" %"),
        "<h2>Exposure, percent of the equity in positions</h2>",
        draw_chart("Exposure", times, exposure, unit=" %"),
    ]


def _render_prices(report: BacktestReport) -> list[str]:
    found = []
    for each in report.prices:
        marks = [_make_mark(fill) for fill in report.fills if fill.symbol == each.symbol]
        line = ChartLine("close", "price", each.close)
        found.append(f"<h2>Fills of {escape(each.symbol)}</h2>{_FILL_LEGEND}")
        found.append(draw_chart(f"{each.symbol} and its fills", each.at, [line], marks))
    return found


def _make_mark(fill: ReportFill) -> FillMark:
    text = f"{fill.side} {fill.qty} at {fill.price}, {fill.at}"
    return FillMark(fill.at, float(fill.price), fill.side == "buy", text)


def _render_fills(report: BacktestReport) -> str:
    if not report.fills:
        return ""
    rows = [
        (each.at, each.symbol, each.side, each.qty, each.price, each.fee, each.decided_at, each.order)
        for each in report.fills[:MAX_LISTED]
    ]
    columns = ("Bar from", "Symbol", "Side", "Quantity", "Price", "Fee", "Decided at", "Order")
    rest = _tell_rest(len(rows), report.counts.fills)
    table = _render_table(columns, rows, numbers=(3, 4, 5))
    return f"<h2>Fills</h2>{table}{rest}{_BY_HAND}"


def _render_refusals(report: BacktestReport) -> str:
    if not report.refused:
        return ""
    rows = [(each.at, each.symbol, each.reason, each.order) for each in report.refused[:MAX_LISTED]]
    table = _render_table(("At", "Symbol", "Reason", "Order"), rows)
    return f"<h2>Orders that were not filled</h2>{table}{_tell_rest(len(rows), report.counts.refused)}"


def _tell_rest(shown: int, total: int) -> str:
    return f"<p class=soft>The first {shown:,} of {total:,}; --json has more.</p>" if shown < total else ""


def _render_assumptions(report: BacktestReport) -> str:
    items = "".join(f"<li>{escape(line)}</li>" for line in report.assumptions)
    return f"<h2>What it assumes</h2><ol>{items}</ol>"


def _render_request(report: BacktestReport) -> str:
    parameters = [(name, str(value)) for name, value in report.request.to_document()["parameters"].items()]
    table = _render_table(("Parameter", "Value"), parameters) if parameters else "<p>No parameters.</p>"
    digests = "".join(
        f'<p class="mono">{label} {escape(value)}</p>'
        for label, value in (
            ("This result:", report.digest),
            ("Bars and actions:", report.data),
            ("Strategy's file:", report.code),
        )
    )
    same = "<p>The same inputs give the same result, by their SHA-256:</p>"
    return f"<h2>To run it again</h2>{table}{same}{digests}"


def _render_table(columns: Sequence[str], rows: Iterable[Sequence[str]], numbers: Sequence[int] = ()) -> str:
    styles = ['class="number"' if place in numbers else "" for place in range(len(columns))]
    head = "".join(f"<th {style}>{escape(name)}</th>" for style, name in zip(styles, columns, strict=True))
    body = "".join(
        "<tr>"
        + "".join(f"<td {style}>{escape(cell)}</td>" for style, cell in zip(styles, row, strict=True))
        + "</tr>"
        for row in rows
    )
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
