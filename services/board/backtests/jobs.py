"""Define a backtest as the board keeps it: the request, how far it is, and why it failed."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Final

import orjson
from pydantic import ConfigDict, Field, TypeAdapter

from services.signals.report import BacktestRequest

ID_CHARS: Final = 32
_ID_FORM: Final = 1
"""Stays when the form of a report changes, so that kept jobs have their ids."""
MAX_DETAIL: Final = 500


class JobState(StrEnum):
    """Name how far a backtest is."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


class JobFailure(StrEnum):
    """Name why a backtest has no report."""

    LATE = "late"  # it took too long, and was killed
    DEAD = "dead"  # its process died
    BAD_ANSWER = "bad_answer"  # its process answered what is no report
    MEMORY = "memory"  # it took more memory than it may have
    RECURSION = "recursion"  # it called itself too deeply
    STRATEGY = "strategy"  # the strategy can't be run with these parameters
    HISTORY = "history"  # the archive lacks what is asked for, or has too much of it
    DATABASE = "database"  # the archive could not be read
    NOT_KEPT = "not_kept"  # the folder of the reports does not take it
    UNREADABLE = "unreadable"  # the report that was kept can't be read any more
    RESTARTED = "restarted"  # the board ended before it did


Id = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Epoch = Annotated[float, Field(ge=0, le=1e11, allow_inf_nan=False)]


@dataclass(frozen=True, slots=True)
class BacktestJob:
    """Hold a backtest; times are epoch seconds.

    Attributes:
        id: the beginning of the request's digest, so the same request is the same job.
        by: the name of the token that asked last.
        detail: why it failed, in words; they may be those of a strategy or of a database.
        digest: names the report of the last run that ended well, by all its inputs; None before.
        is_kept: whether the last run found its report from before, since no input had changed.
    """

    id: Id
    request: BacktestRequest
    by: Annotated[str, Field(max_length=200)]
    state: JobState
    queued_at: Epoch
    began_at: Epoch | None = None
    ended_at: Epoch | None = None
    failure: JobFailure | None = None
    detail: Annotated[str, Field(max_length=MAX_DETAIL)] = ""
    digest: Digest | None = None
    is_kept: bool = False

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    @property
    def has_ended(self) -> bool:
        return self.state in (JobState.DONE, JobState.FAILED)

    def to_document(self) -> dict[str, Any]:
        document = {each.name: getattr(self, each.name) for each in fields(self)}
        return {**document, "request": self.request.to_document()}


_JOBS: Final = TypeAdapter(BacktestJob)


def find_job_id(request: BacktestRequest) -> str:
    return request.digest("", "", _ID_FORM)[:ID_CHARS]


def encode_job(job: BacktestJob) -> bytes:
    return orjson.dumps(job.to_document())


def parse_job(raw: bytes) -> BacktestJob:
    """Return the job that `encode_job` wrote. Raises ValueError for anything else."""
    job = _JOBS.validate_json(raw)
    if job.id != find_job_id(job.request):
        raise ValueError("the id is that of another request")
    return job


def describe_job(job: BacktestJob, progress: float | None) -> Mapping[str, Any]:
    """Return a job as the API has it; `progress` is the share that was played, None if that is not known."""
    return {
        "id": job.id,
        "state": job.state,
        "progress": 1.0 if job.state is JobState.DONE else progress,
        "reason": job.failure,
        "detail": job.detail or None,
        "by": job.by,
        "queued_at": job.queued_at,
        "began_at": job.began_at,
        "ended_at": job.ended_at,
        "kept": job.is_kept,
        "request": job.request.to_document(),
    }
