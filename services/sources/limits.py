"""Define how many requests a source takes, as its file or the truth says it, and how it may fail. Pure."""

from typing import Annotated

from pydantic import ConfigDict, Field

from marketswarm.agent import ServiceConfig

Requests = Annotated[int, Field(ge=1, le=1_000_000_000)] | None


class LimitSettings(ServiceConfig):
    """`settings.limits.NAME`: the limits of your keys of a source, instead of all those that its file says.

    A limit that is not named does not apply.
    """

    model_config = ConfigDict(extra="forbid")

    per_second: Requests = None
    """The requests that it takes in a second. Example: `5`."""
    per_minute: Requests = None
    """The requests that it takes in a minute. Example: `100`."""
    per_hour: Requests = None
    """The requests that it takes in an hour. Example: `5000`."""
    per_day: Requests = None
    """The requests that it takes in a day. Example: `100000`."""
    per_month: Requests = None
    """The requests that it takes in a month. Example: `1000000`."""

    def windows(self) -> tuple[tuple[int, int], ...]:
        """Return each limit as seconds and requests, the shortest window first."""
        counts = (self.per_second, self.per_minute, self.per_hour, self.per_day, self.per_month)
        pairs = zip((1, 60, 3600, 86_400, 30 * 86_400), counts, strict=True)
        return tuple((sec, count) for sec, count in pairs if count is not None)


class FailureSettings(ServiceConfig):
    """`settings.failures.NAME`: when a source that fails is left alone, and how often it is asked again."""

    model_config = ConfigDict(extra="forbid")

    failure_threshold: Annotated[int, Field(ge=1, le=1000)] = 3
    """The failures in a row that open its breaker. Example: `5`."""
    recovery_sec: Annotated[float, Field(ge=1, le=86_400, allow_inf_nan=False)] = 10.0
    """For how long its breaker is open first; each failed trial doubles that. Example: `60`."""
    longest_recovery_sec: Annotated[float, Field(ge=1, le=86_400, allow_inf_nan=False)] = 600.0
    """For how long its breaker is open at most. Example: `3600`."""
    retries: Annotated[int, Field(ge=0, le=5)] = 0
    """How often a request that the network or an error of the server (500 to 599) ended is sent again before
    it has failed. Each counts against the limits. Example: `2`."""
