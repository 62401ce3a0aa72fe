"""A target of massive's probes for the board's pages: slow, then failing, not probed, and well again."""

from dataclasses import replace

from marketswarm.agent.outage_state import OutageState
from marketswarm.status.probe_past import (
    RINGS,
    FailureRun,
    ProbeBin,
    ProbePast,
    ProbeReading,
    ProbeRecord,
)
from services.board.fleet.alerts import AlertView
from services.board.fleet.frame import Frame
from services.board.fleet.probe_pages import (
    ProbePage,
    ProbeSection,
    ProbeView,
    make_probe_answer,
    make_views,
)
from support.board_examples import AT


def make_probe_record(text: str = "") -> ProbeRecord:
    """Return what is known of a page that was slow, then failed, then was not probed, and is well again."""

    def make_bin(number: int, length_sec: int, count: int) -> ProbeBin:
        at = (AT // length_sec - count + 1 + number) * length_sec
        part = number / count
        mean = 0.04 + 0.01 * (number % 5) + (0.3 if 0.3 < part < 0.4 else 0.0)
        days = (3.0 if part < 0.6 else 92.0) - part
        fails = 4 if 0.4 <= part < 0.45 else number % 17 == 3
        times = (None, None) if fails == 4 else (mean, mean * 1.7)
        return ProbeBin(at, length_sec, 4, int(fails), *times, days)

    def make_ring(length_sec: int, count: int) -> tuple[ProbeBin, ...]:
        shown = (number for number in range(count) if not 0.55 < number / count < 0.65)
        return tuple(make_bin(number, length_sec, count) for number in shown)

    latest = ProbeReading(
        AT - 4,
        True,
        "https",
        "https://shop.example/health" + text,
        "done",
        warning=text or None,
        total_sec=0.0482,
        steps_sec={"dns": 0.002, "tcp": 0.009, "tls": 0.0202, "http": 0.017},
        address="192.0.2.7" + text,
        status=200,
        tls="TLSv1.3" + text,
        issuer="Example CA" + text,
        days_left=91.2,
        ends_at=AT + 91.2 * 86_400,
    )
    failures = (
        FailureRun(AT - 2100, AT - 1980, 9, "http", "status_503" + text, is_open=False),
        FailureRun(AT - 90_000, AT - 90_000, 1, "tcp", "timeout" + text, is_open=bool(text)),
    )
    rings = {name: make_ring(*each) for name, each in RINGS.items()}
    return ProbeRecord("shop" + text, latest, ProbePast(**rings), failures)


def make_probe_views(text: str = "") -> tuple[ProbeView, ...]:
    reading = make_probe_record(text).latest
    failed = ProbeReading(AT, False, stage="tcp" + text, error="refused" + text, total_sec=0.001)
    found = {"shop" + text: reading, "db" + text: failed}
    return make_views(["shop" + text, "db" + text, "new" + text], {k: v for k, v in found.items() if v})


def show_probe(events: tuple[AlertView, ...], text: str, frame: Frame, params: dict[str, str]) -> ProbePage:
    """Return the page of a target; `down` is one that is down, `new` one that was never probed."""
    record, stored = make_probe_record(text), OutageState("up")
    if params["rest"] == "down":
        stored = OutageState("down", since=AT - 600, error="status_503" + text)
    if params["rest"] == "new":
        record = ProbeRecord("new")
    away = "bus market-redis does not answer: refused" + text if text else None
    settings = ProbeSection(15.0, '{\n  "name": "shop"\n}' + text)
    frame = replace(frame, title="massive/shop", path="/")
    return ProbePage(frame, make_probe_answer(record, stored, away), settings, events[:2])
