"""The page of a report needs nothing but itself, and what others wrote can't become markup."""

import re
from dataclasses import replace
from datetime import date
from html.parser import HTMLParser
from itertools import pairwise

import pytest

from services.signals.charts import ChartLine, FillMark, draw_chart, list_ticks
from services.signals.history import make_daily_history
from services.signals.page import format_money, render_page
from services.signals.report import BacktestRequest
from services.signals.run import run_backtest

EVIL = "<script>alert('x')</script>\"'&"
VOID = {"meta", "br", "line"}


class Outline(HTMLParser):
    """Collect elements, their attributes and texts, and check that each is closed."""

    def __init__(self, page):
        super().__init__()
        self.open, self.elements, self.texts = [], [], []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


@pytest.fixture(scope="module")
def report():
    history = make_daily_history({"SPY": [100 + (n % 9) for n in range(200)]}, date(2024, 1, 1))
    request = BacktestRequest.from_document(
        {
            "strategy": "reversion",
            "parameters": {"bars": 4, "deviations": 0.5},
            "symbols": ["SPY"],
            "from": "2024-01-01",
            "to": "2024-12-31",
        }
    )
    return run_backtest(request, history)


def test_a_page_has_its_charts_numbers_and_sentences(report):
    outline = Outline(render_page(report))
    tags = [tag for tag, _ in outline.elements]
    assert tags.count("svg") == 4  # equity, drawdown, exposure, the fills of SPY
    marks = [each for tag, each in outline.elements if (each.get("class") or "").startswith("mark ")]
    assert len(marks) == report.counts.fills
    text = " ".join(outline.texts)
    for said in (report.hypothetical, *report.assumptions, *report.warnings, report.digest, "Buy and hold"):
        assert said in text
    assert format_money(report.totals.final_equity) in text


def test_it_loads_nothing_and_runs_nothing(report):
    page = render_page(report)
    outline = Outline(page)
    assert not {"script", "link", "img", "iframe", "object", "embed", "base", "form"} & {
        tag for tag, _ in outline.elements
    }
    attributes = [name for _, attrs in outline.elements for name in attrs]
    assert not [name for name in attributes if name.startswith("on") or name in ("src", "href", "style")]
    assert not re.search(r"url\(|@import|https?:", page)
    policy = next(
        each["content"]
        for tag, each in outline.elements
        if each.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy.startswith("default-src 'none'")


def test_texts_of_others_are_escaped(report):
    """A user's strategy has a title, a source a name."""
    evil = replace(
        report,
        title=EVIL,
        source=EVIL,
        hypothetical=EVIL,
        warnings=(EVIL,),
        assumptions=(EVIL,),
        fills=(replace(report.fills[0], order=EVIL),),
        prices=(replace(report.prices[0], symbol=EVIL),),
    )
    outline = Outline(render_page(evil))
    assert "script" not in [tag for tag, _ in outline.elements]
    assert outline.texts.count(EVIL) >= 5


def test_an_empty_report_has_no_empty_charts(report):
    empty = replace(report, points=(), fills=(), prices=(), refused=(), warnings=())
    page = render_page(empty)
    Outline(page)
    assert "<svg" not in page


@pytest.mark.parametrize(
    "low_high", [(0, 0), (100, 100), (-5, 3), (1e-9, 2e-9), (99_950, 100_050), (-1e12, 1e12)]
)
def test_ticks_hold_what_is_drawn(low_high):
    low, high = low_high
    ticks = list_ticks(low, high)
    assert ticks[0] <= low
    assert ticks[-1] >= high
    assert 2 <= len(ticks) <= 10
    assert len({round(b - a, 12) for a, b in pairwise(ticks)}) <= 2


def test_everything_is_inside_of_the_picture():
    times = [f"2024-01-{day:02}T21:00:00Z" for day in range(1, 21)]
    values = [100.0 + day for day in range(20)]
    marks = [
        FillMark("2020-01-01T00:00:00Z", 80.0, True, "early"),
        FillMark("2030-01-01T00:00:00Z", 300.0, False, "late"),
    ]
    chart = draw_chart(
        "A chart",
        times,
        [ChartLine("a", "one", values, is_area=True), ChartLine("b", "two", [float("nan")] * 20)],
        marks,
    )
    points = [tuple(map(float, each.split(","))) for each in re.findall(r"-?[\d.]+,-?[\d.]+", chart)]
    assert points
    assert all(0 <= x <= 960 and 0 <= y <= 270 for x, y in points)
    assert draw_chart("One", times[:1], [ChartLine("a", "one", [5.0])]).count("<svg") == 1


@pytest.mark.parametrize(
    ("text", "shown"),
    [("-1234567.899", "-1,234,567.89"), ("0.00", "0.00"), ("12", "12.00"), ("999.5", "999.50")],
)
def test_money_is_shown_with_its_thousands_apart(text, shown):
    assert format_money(text) == shown
