"""Define the `settings` of the notifier's section of the truth, with every default.

Where the truth has no value, the caller fills in the environment's (RATE_LIMIT_SEC, the channels).
"""

from collections.abc import Iterator
from datetime import tzinfo
from itertools import pairwise
from typing import Annotated, Any, Final, Self
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, Field, field_validator, model_validator

from marketswarm.agent import ServiceConfig
from marketswarm.channels import Severity
from marketswarm.operator.maintenance import MaintenanceWindow, Names, ServiceFilter, StrictModel
from marketswarm.truth import env_policy
from marketswarm.truth.errors import Place
from marketswarm.truth.schedule import require_time_zone

RATE_LIMIT_SEC: Final = 300.0
RETRY_FOR_SEC: Final = 3600.0

Seconds = Annotated[float, Field(gt=0, le=31_536_000, allow_inf_nan=False)]
"""A duration above 0, of a year at most, in seconds."""
Wait = Annotated[float, Field(ge=0, le=60, allow_inf_nan=False)]
Limit = Annotated[float, Field(ge=0, le=86_400, allow_inf_nan=False)]
Hold = Annotated[float, Field(ge=0, le=600, allow_inf_nan=False)]
DigestWait = Annotated[float, Field(ge=0, le=604_800, allow_inf_nan=False)]


class Route(ServiceFilter):
    """A route: the channels of messages about some services, of some severities; none named means all."""

    severities: tuple[Severity, ...] = ()
    """The severities of the messages that take this route. Default: all. Example: `["critical"]`."""
    channels: Annotated[Names, Field(min_length=1)]
    """The channels of this route, by their names in `channels`. Example: `["team", "night"]`."""

    def matches(self, severity: Severity, svc: str, tags: tuple[str, ...]) -> bool:
        return self.includes(svc, tags) and (not self.severities or severity in self.severities)


class EscalationStep(StrictModel):
    """An escalation step: further channels for an outage that no person acknowledges within `after_sec`."""

    after_sec: Seconds
    """The time from the first message about an outage to this step. Example: `900`."""
    channels: Annotated[Names, Field(min_length=1)]
    """The channels of this step, by their names in `channels`. Example: `["night"]`."""


class Policy(ServiceConfig):
    """The model of `settings` in the notifier's section. Durations are in seconds."""

    group_wait_sec: Wait = 2.0
    """How long the notifier waits after an event for further ones, to send all of them as one message.
    For one about the healer or a bus, 5 s at most. Example: `5`."""
    rate_limit_sec: Limit | None = None
    """How long further misses of a service are held back after a message about one; 0 means no limit.
    Default: `RATE_LIMIT_SEC`, 300. Example: `600`."""
    rate_limit_max_hold_sec: Limit = 60.0
    """How long the limit holds back the message about a service that is still down; `rate_limit_sec` at most.
    Example: `120`."""
    healing_max_hold_sec: Hold = 60.0
    """How long the message about an outage waits at most while the medic works on it, in mode `act`; 0 means
    that none waits, and a `critical` one never does. Example: `0`."""
    time_zone: Annotated[str, Field(max_length=100), AfterValidator(require_time_zone)] | None = None
    """The time zone whose clocks messages show before UTC. Default: UTC alone. Example:
    `"Europe/Zurich"`."""
    digest_sec: DigestWait = 86_400.0
    """How long the outages that were healed meanwhile are collected, from the first one on, to send all of
    them as one message; 0 means that each is sent at once. Example: `604800`."""
    retry_for_sec: Seconds = RETRY_FOR_SEC
    """How long the notifier retries a message that its receiver does not accept. Example: `7200`."""
    remind_sec: tuple[Seconds, ...] = (900.0, 3600.0, 14_400.0, 43_200.0)
    """The times of the reminders about an outage, counted from the first message. After the last time a
    reminder follows at each further interval of that length. An empty list means no reminders. Example:
    `[1800, 7200]`."""
    flap_window_sec: Seconds = 600.0
    """How long a change of a service (down or up) counts towards flapping. Example: `900`."""
    channels: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """The ways to reach people, by names that you choose: `type`, and the options of that type. Default:
    the channels of the environment. Example: `{"night": {"type": "pagerduty", "routing_key":
    "env:PAGERDUTY_ROUTING_KEY"}}`."""
    routes: tuple[Route, ...] = ()
    """The routes of messages to channels: a message takes the first route that fits it. Default: every
    message goes to every channel."""
    maintenance: Annotated[tuple[MaintenanceWindow, ...], Field(max_length=200)] = ()
    """The maintenance windows: while one is open, no messages are sent about the services that it is for."""
    escalate: tuple[EscalationStep, ...] = ()
    """The further channels for an outage that is not acknowledged, in steps."""

    @field_validator("remind_sec")
    @classmethod
    def _rising(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if any(later <= earlier for earlier, later in pairwise(value)):
            raise ValueError("must rise: each is counted from the first message")
        return value

    @property
    def zone(self) -> tzinfo | None:
        """The zone of the clocks that messages show before UTC, if there is one."""
        return None if self.time_zone is None else ZoneInfo(self.time_zone)

    @field_validator("escalate")
    @classmethod
    def _in_order(cls, value: tuple[EscalationStep, ...]) -> tuple[EscalationStep, ...]:
        return tuple(sorted(value, key=lambda step: step.after_sec))

    @model_validator(mode="after")
    def _channels_are_there(self) -> Self:
        if self.channels:
            named = {name for route in self.routes for name in route.channels}
            named |= {name for step in self.escalate for name in step.channels}
            unknown = sorted(named - set(self.channels))
            if unknown:
                raise ValueError(f"channels: {', '.join(unknown)} is named elsewhere, and not there")
        return self


class Section(ServiceConfig):
    """The part of the notifier's section of the truth that the notifier reads."""

    settings: Policy = Policy()
    """The messages that people get, when they get them, and over which channels."""

    def find_warnings(self) -> Iterator[tuple[Place, str]]:
        """Yield the place and reason of channel options that the environment refuses or must allow."""
        for name, options in self.settings.channels.items():
            conditional = env_policy.find_conditional_options(options)
            for option, why in (*env_policy.find_refusals(options), *conditional):
                yield ("settings", "channels", name, option), why
