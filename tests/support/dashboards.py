"""The queries of Grafana's dashboards, put to a real Prometheus."""

import time
import urllib.error
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import orjson

from support.pages import ROOT
from support.rig.metrics import Prometheus

FOLDER: Final = ROOT / "deploy" / "grafana" / "dashboards"
CHOSEN: Final = {"svc": "vexy_ai", "bus": ".*", "__rate_interval": "10s", "__range": "60s"}
"""What Grafana puts in place of its variables: an agent that reads streams, and all buses."""


@dataclass(frozen=True)
class Asked:
    """A query of a dashboard: its name, the panel, the letter in it, the expression."""

    dashboard: str
    panel: str
    letter: str
    expr: str
    instant: bool

    @property
    def place(self) -> tuple[str, str, str]:
        return self.dashboard, self.panel, self.letter


def read_dashboard(name: str) -> dict[str, Any]:
    return dict(orjson.loads((FOLDER / f"{name}.json").read_bytes()))


def fill_in(expr: str) -> str:
    """Put values in place of Grafana's variables, the longest names first."""
    for name in sorted(CHOSEN, key=len, reverse=True):
        expr = expr.replace(f"${name}", CHOSEN[name])
    assert "$" not in expr, expr
    return expr


def list_queries(names: Collection[str]) -> Iterator[Asked]:
    for name in names:
        for panel in read_dashboard(name)["panels"]:
            for target in panel.get("targets", ()):
                expr = fill_in(target["expr"])
                yield Asked(name, panel["title"], target["refId"], expr, target["instant"])


def list_variables(names: Collection[str]) -> Iterator[tuple[str, ...]]:
    """Yield the metric and the label of each variable that Grafana asks for."""
    for name in names:
        for variable in read_dashboard(name)["templating"]["list"]:
            if variable["type"] == "query":
                inner = variable["query"]["query"].removeprefix("label_values(").removesuffix(")")
                yield tuple(inner.split(", "))


def find_empty(
    prometheus: Prometheus, queries: Iterable[Asked]
) -> tuple[list[Asked], list[tuple[Asked, str]]]:
    """Ask each query; return those without a series, and those that are refused, with the reason."""
    empty, refused = [], []
    now = time.time()
    for one in queries:
        try:
            if one.instant:
                found = prometheus.ask("query", query=one.expr, time=str(now))
            else:
                found = prometheus.ask(
                    "query_range", query=one.expr, start=str(now - 30), end=str(now), step="1"
                )
        except urllib.error.HTTPError as error:
            refused.append((one, error.read().decode()))
            continue
        if not found["result"]:
            empty.append(one)
    return empty, refused
