"""Describe the runs of a job for people: `next 03:00`, `running for 4 min`. Pure."""

from collections.abc import Callable
from datetime import UTC, datetime, tzinfo
from math import floor
from zoneinfo import ZoneInfo

from marketswarm.status.service_rows import JobStatus
from marketswarm.text import format_duration

_HOUR_SEC = 3600.0


def describe_job(job: JobStatus, now: float, format_at: Callable[[float], str]) -> list[str]:
    """Return what is known of the runs of a job; `format_at` writes a time in the zone of its reader."""
    words = []
    if job.running_since is not None:
        words.append(f"running for {format_duration(max(0.0, now - job.running_since))}")
    if job.next_due_at is not None and job.next_due_at < now:
        words.append(f"overdue since {format_at(job.next_due_at)}")
    elif job.next_run_at is not None:
        words.append(f"next {format_at(job.next_run_at)}")
    if job.early_sec is not None:
        words.append(describe_early(job, now))
    return words


def describe_early(job: JobStatus, now: float) -> str:
    """Return that a job pings too early, with the next run in the zone of its schedule and in UTC."""
    early = format_duration(60.0 * round((job.early_sec or 0.0) / 60))
    if job.next_run_at is None:
        return f"it pings {early} early: is the zone right?"
    there = format_scheduled(job.next_run_at, job.time_zone, now)
    utc = "" if job.time_zone == "UTC" else f" = {format_scheduled(job.next_run_at, 'UTC', now)}"
    return f"it pings {early} early for {there}{utc}: is the zone right?"


def format_scheduled(at: float, time_zone: str, now: float) -> str:
    """Return a time with its zone: `03:00 Europe/Berlin`; the date stands in front if it is a day away."""
    zone: tzinfo = UTC if time_zone == "UTC" else ZoneInfo(time_zone)
    try:
        there = datetime.fromtimestamp(floor(at), zone)
    except (OverflowError, OSError, ValueError):
        return "?"
    is_near = abs(at - now) < 24 * _HOUR_SEC
    return f"{there.strftime('%H:%M' if is_near else '%a %d %b %Y %H:%M')} {time_zone}"
