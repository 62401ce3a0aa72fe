"""Describe what came of trying a source, for people and for programs. Pure."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, Final

from marketswarm.text import escape_text
from services.market.records import Record
from services.sources.access.trial import Trial
from services.sources.catalog.request import ApiKey, hide_key

RAW_LETTERS: Final = 2_000
"""The number of letters of an answer that are shown as they came."""
MISFITS_SHOWN: Final = 5


def describe_trial(trial: Trial, keys: Sequence[ApiKey], *, raw: bool) -> Iterator[str]:
    """Yield lines that say what was asked, what came, what was mapped, and what did not fit.

    The first line is the result. `raw`: show also the beginning of each answer, without any of the keys.
    """
    answer, question = trial.answer, trial.question
    what = f"{question.kind} of {question.symbol}{question.timeframe and f' in {question.timeframe}'}"
    result = answer.outcome.value + (f", {answer.reason}" if answer.reason else "")
    counted = f", {len(answer.records):,} records" if answer.records else ""
    missing = f", {answer.missing:,} without a value" if answer.missing else ""
    mark = "✓" if trial.is_good else "✗"
    yield escape_text(f"{mark} {trial.endpoint}: {what}: {result}{counted}{missing}")
    for each in trial.requests:
        came = f"{each.status or 'nothing'}, {len(each.body):,} bytes in {each.took_sec:.2f} s"
        yield escape_text(f"    asked {each.url}: {came}")
        if raw:
            text = each.body.decode("utf-8", "replace")
            for key in keys:  # some sources repeat it
                text = hide_key(text, key)
            yield escape_text(f"    came {text[:RAW_LETTERS]}{'…' if len(text) > RAW_LETTERS else ''}")
    for word, record in zip(("first", "last"), (answer.records[:1] + answer.records[1:][-1:]), strict=False):
        yield escape_text(f"    {word} {_describe_record(record)}")
    for misfit in answer.misfits[:MISFITS_SHOWN]:
        yield escape_text(f"    row {misfit.row} does not fit: {misfit.field}: {misfit.why}")
    if len(answer.misfits) > MISFITS_SHOWN:
        yield f"    and {len(answer.misfits) - MISFITS_SHOWN} more"


def _describe_record(record: Record) -> str:
    """Return a record on one line, times in UTC, without what the source does not say."""
    words = []
    for name, value in asdict(record).items():
        if value is not None and name.endswith("_ms"):
            words.append(datetime.fromtimestamp(value / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S"))
        elif value is not None and name not in ("symbol", "timeframe"):
            words.append(f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}")
    return " ".join(words)


def encode_trial(trial: Trial) -> dict[str, Any]:
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
            for each in trial.requests
        ],
    }
