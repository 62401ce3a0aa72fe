"""Define maintenance windows, which stand in the notifier's section of the truth, and say which are open."""

from fnmatch import fnmatchcase
from typing import Annotated, Any, Final, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from marketswarm.truth import Schedule, Truth
from marketswarm.truth.schedule import ScheduleError, find_cron_fields, parse_schedule

NOTIFIER: Final = "notifier"
WEEK_SEC: Final = 7 * 86_400.0

Names = tuple[Annotated[str, Field(min_length=1, max_length=200)], ...]


class StrictModel(BaseModel):
    """The base of the models in the notifier's settings: an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class ServiceFilter(StrictModel):
    """A filter of services, by names and patterns or by tags; an empty filter includes all services."""

    services: Names = ()
    """The names and patterns of the services, buses and targets that this is for. Default: all. Example:
    `["rss_*"]`."""
    tags: Names = ()
    """The tags of the services that this is for: one of them is enough. Default: all. Example:
    `["ingest"]`."""

    def includes(self, svc: str, tags: tuple[str, ...]) -> bool:
        if not self.services and not self.tags:
            return True
        return any(fnmatchcase(svc, each) for each in self.services) or not set(self.tags).isdisjoint(tags)


class MaintenanceWindow(ServiceFilter):
    """A maintenance window, which begins at each time of a crontab expression and lasts `for_sec` seconds."""

    at: str
    """The times at which the window begins, as the five fields of a crontab, or a name such as `@daily`.
    Example: `"30 2 * * SUN"`."""
    for_sec: Annotated[float, Field(gt=0, le=WEEK_SEC, allow_inf_nan=False)]
    """The length of the window; a week at most. Example: `3600`."""
    tz: str = "UTC"
    """The time zone of `at`. Example: `"Europe/Zurich"`."""
    why: Annotated[str, Field(max_length=200)] = "maintenance"
    """The reason for the window, shown to people. Example: `"weekly dump"`."""

    @field_validator("tz")
    @classmethod
    def _known_zone(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise ValueError("is not a time zone; one is Europe/Zurich") from None
        return name

    @model_validator(mode="after")
    def _has_beginnings(self) -> Self:
        if find_cron_fields(self.at) is None:
            raise ValueError('at: must have five fields as in a crontab, such as "30 2 * * SUN"')
        try:
            parse_schedule(self.at)
        except ScheduleError as error:
            raise ValueError(f"at: {error}") from None
        return self


def is_window_open(window: MaintenanceWindow, now: float) -> bool:
    """Look at the window in its own time zone."""
    begun = Schedule(window.at, window.tz).next_run(now - window.for_sec)
    return begun is not None and begun <= now


def find_windows(truth: Truth) -> tuple[MaintenanceWindow, ...]:
    """Return the maintenance windows of a truth; one that the notifier would refuse is left out."""
    section = truth.services.get(NOTIFIER)
    found: Any = section.settings.get("maintenance") if section is not None else None
    windows = []
    for each in found if isinstance(found, list) else ():
        try:
            windows.append(MaintenanceWindow.model_validate(each))
        except ValidationError:
            continue
    return tuple(windows)
