"""The entries of `healer:jobs`: what the healer knows about the runs of each job, as JSON. Pure.

    {"expected_from":1762433458.125,"has_run":true,"running_since":1762519859.1,"runs":{"5f0c":1762519859.1}}

The next run is the first scheduled time after `expected_from`. Programs that show the fleet read this, too.
"""

from typing import Any, Final

import orjson

from marketswarm.beat import MAX_RID_CHARS
from marketswarm.bus.stored_values import parse_duration, parse_epoch, parse_object, parse_text, parse_values
from marketswarm.detector import SavedJob
from marketswarm.detector.job import EARLY_IN_A_ROW, MAX_RUNS

MAX_SAVED_SCHEDULE_CHARS: Final = 300
"""An expression and the name of a time zone."""
MAX_JOB_ENTRY_BYTES: Final = 16_384
"""Bytes; an entry with the most runs, each with the longest id, is shorter."""


def encode_job_entry(job: SavedJob) -> bytes:
    """Return JSON without the values that are empty."""
    found: dict[str, Any] = {"expected_from": round(job.expected_from, 3), "has_run": job.has_run}
    if job.runs:
        found["running_since"] = round(min(started for _, started in job.runs), 3)
        found["runs"] = {rid: round(started, 3) for rid, started in job.runs}
    if job.leads_sec:
        found["leads_sec"] = [round(lead_sec, 3) for lead_sec in job.leads_sec]
    if job.schedule:
        found["schedule"] = job.schedule
    if job.moved_at is not None:
        found["moved_at"] = round(job.moved_at, 3)
    return orjson.dumps(found)


def parse_job_entry(raw: bytes) -> SavedJob | None:
    """Return None for an unusable value."""
    found = parse_object(raw, MAX_JOB_ENTRY_BYTES)
    expected_from, has_run = parse_epoch(found.get("expected_from")), found.get("has_run")
    runs = parse_values(found.get("runs", {}), MAX_RUNS, MAX_RID_CHARS, parse_epoch, least=0)
    leads_sec = _parse_leads(found.get("leads_sec", []))
    if expected_from is None or not isinstance(has_run, bool) or runs is None or leads_sec is None:
        return None
    schedule = parse_text(found.get("schedule"), MAX_SAVED_SCHEDULE_CHARS) or ""
    moved_at = parse_epoch(found.get("moved_at"))
    return SavedJob(expected_from, has_run, tuple(runs.items()), leads_sec, schedule, moved_at)


def _parse_leads(found: Any) -> tuple[float, ...] | None:
    """Return how early the last runs were; None for an unusable value."""
    if not isinstance(found, list) or len(found) > EARLY_IN_A_ROW:
        return None
    leads_sec = tuple(lead for lead in map(parse_duration, found) if lead is not None)
    return leads_sec if len(leads_sec) == len(found) else None
