"""Define the settings of the medic in the truth and the environment. Pure, but for a look for an extra."""

import os
import shlex
from collections.abc import Iterator
from enum import StrEnum
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, ClassVar, Final, Literal

from pydantic import AfterValidator, Field, ValidationInfo, field_validator

from marketswarm.agent import ServiceConfig
from marketswarm.net.addresses import require_encrypted_url
from marketswarm.operator.remedies import ARCHIVE, CACHES, REQUEST_KEYS, SOURCES, Remedy, find_cache
from marketswarm.settings import HttpUrl, Token, list_variables
from marketswarm.settings.programs import MonitorSettings
from marketswarm.truth import Truth
from marketswarm.truth.errors import Place, format_hint
from services.medic.metric import Metric
from services.medic.owners.unit import UNIT_PATTERN
from services.medic.refusal import PROTECTED
from services.medic.rule import (
    MAX_PAIRS,
    MAX_PATTERNS,
    MAX_RULES,
    SHIPPED,
    MonitorRule,
    RuleName,
    list_pairs,
)

MAX_GAP_SEC: Final = 10.0
"""The least that the longest gap between two looks is."""
MAX_COMMAND_SEC: Final = 3600.0
"""The longest time that the remedy `command` may take."""

Seconds = Annotated[float, Field(ge=0.1, le=86_400, allow_inf_nan=False)]
Name = Annotated[str, Field(min_length=1, max_length=63)]
RemedyName = Literal[
    "resume_sources",
    "reload_series",
    "pause_source",
    "quotes_cache",
    "charts_cache",
    "reconnect",
    "repeat_backup",
    "restart",
    "roll_back_truth",
    "command",
]


def require_words(command: str | None) -> str | None:
    """Return a command that is words as a shell quotes them. Raises ValueError."""
    if command is not None and not shlex.split(command):
        raise ValueError("must be a command and its arguments")
    return command


def _find_bus(named: str | None) -> str | None:
    """Return the address of a bus that a word names, as systemd has it, or the address itself.

    Raises ValueError without the extra that speaks D-Bus.
    """
    if named is not None and find_spec("dbus_fast") is None:
        raise ValueError("needs the extra: pip install 'marketswarm[systemd]'")
    if named == "user":
        return f"unix:path=/run/user/{os.getuid()}/bus"
    return "unix:path=/run/dbus/system_bus_socket" if named == "system" else named


def _require_no_command(url: str | None, info: ValidationInfo) -> str | None:
    if url is not None and info.data.get("medic_diagnosis_command"):
        raise ValueError("must not be set together with MEDIC_DIAGNOSIS_COMMAND")
    return url


class MedicEnvironment(MonitorSettings):
    """The variables of the medic. Without a command and a URL, nothing leaves the fleet."""

    medic_dry_run: bool = False
    """Whether it touches nothing, whatever the truth says, as with `--dry-run`."""
    medic_fleet_socket: Path | None = None
    """The control socket of the embedded fleet; `marketswarm up` sets it."""
    medic_fleet_logs: Path | None = None
    """The folder with the log files of the embedded fleet; `marketswarm up` sets it."""
    medic_engine_socket: Path | None = None
    """The Unix socket of a container engine, or of a proxy before it; without it no container is touched."""
    medic_engine_project: Annotated[str | None, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,99}$")] = None
    """The project of Compose whose containers are those of the fleet, by the names of their services."""
    medic_systemd: Annotated[
        str | None,
        Field(pattern=r"^(system|user|unix:(path|abstract)=[^;,%\s]{1,200})$"),
        AfterValidator(_find_bus),
    ] = None
    """The D-Bus of systemd: `system`, `user` or an address; without it, no unit is touched."""
    medic_systemd_unit: Annotated[str, Field(pattern=UNIT_PATTERN)] = "marketswarm@%s.service"
    """The name of a service's unit, with `%s` in place of the service."""
    medic_command: Annotated[str | None, AfterValidator(require_words)] = Field(None, repr=False)
    """The command, and its arguments, of the remedy `command`; no shell reads it."""
    medic_command_sec: Annotated[float, Field(gt=0, le=MAX_COMMAND_SEC, allow_inf_nan=False)] = 30.0
    """The time limit of that command, in seconds, where the truth has no `timeout_sec` for the service."""
    medic_diagnosis_command: Annotated[str | None, AfterValidator(require_words)] = Field(None, repr=False)
    """The command, and its arguments, that makes a diagnosis; no shell reads it."""
    medic_diagnosis_url: Annotated[
        Annotated[HttpUrl, AfterValidator(partial(require_encrypted_url, "https"))] | None,
        AfterValidator(_require_no_command),
    ] = Field(None, repr=False)
    """The base URL of an OpenAI-compatible endpoint that makes a diagnosis, with /v1 at its end."""
    medic_diagnosis_key: Token | None = None
    medic_diagnosis_model: Annotated[str, Field(min_length=1, max_length=200)] = "default"
    medic_diagnosis_sec: Annotated[float, Field(gt=0, le=600, allow_inf_nan=False)] = 60.0
    """The time limit of one diagnosis, in seconds."""
    medic_diagnosis_folder: Path | None = None
    """The folder of a Git repository whose last commits belong to a bundle, and its source around a
    traceback."""


class Mode(StrEnum):
    """How far the medic goes: record what it would do, ask a person first, or do it.

    `earned` is `propose` until a remedy has earned `act`, for one service, by what people approved.
    """

    OBSERVE = "observe"
    PROPOSE = "propose"
    EARNED = "earned"
    ACT = "act"


class TargetSettings(ServiceConfig):
    """`settings.targets`: what holds for one service alone."""

    mode: Mode | None = None
    """The mode for this service. Default: the medic's `mode`. Example: `"propose"`."""
    ladder: Annotated[tuple[RemedyName, ...], Field(max_length=10)] = ("restart",)
    """The remedies that may be tried for this service; in which order follows from their cost. Example:
    `["quotes_cache", "restart"]`."""
    remedies: dict[RemedyName, Mode] = Field({}, max_length=10)
    """The mode of a single remedy for this service. Example: `{"restart": "act"}`."""
    owner: Literal["up", "medic"] = "up"
    """What restarts the service in an embedded fleet. With `"medic"`, a process that ended is started as soon
    as the healer misses it, and not after the fleet's own pause. Example: `"medic"`."""
    start_grace_sec: Seconds | None = None
    """The time that a start of this service may take. Default: the medic's `start_grace_sec`. Example:
    `120`."""
    timeout_sec: Annotated[float, Field(ge=1, le=MAX_COMMAND_SEC, allow_inf_nan=False)] | None = None
    """How long the remedy `command` may take for this service. Default: `MEDIC_COMMAND_SEC`. Example:
    `900`."""


class FuseSettings(ServiceConfig):
    """`settings.fuse`: when the medic does nothing more at all, and leaves it to people."""

    down_share: Annotated[float, Field(gt=0, le=1)] = 0.4
    """The part of the fleet that may be down at once. Example: `0.3`."""
    remedies: Annotated[int, Field(ge=1, le=1000)] = 10
    """The number of remedies within `within_sec`. Example: `5`."""
    within_sec: Seconds = 600.0
    """The time in which remedies are counted. Example: `1800`."""

    @property
    def share(self) -> int:
        """The most remedies of one service within that time: half of all, so that others are healed, too."""
        return max(1, self.remedies // 2)


class RollbackSettings(ServiceConfig):
    """`settings.rollback`: when a truth is taken for the cause of an outage."""

    services: Annotated[int, Field(ge=2, le=10_000)] = 2
    """How many services whose section the truth changed must have gone down. Example: `3`."""
    within_sec: Seconds = 300.0
    """How soon after its seeding, and how long the one before must have been in force. Example: `120`."""


class HealingSettings(ServiceConfig):
    """`settings` of the medic. All durations are in seconds."""

    mode: Mode = Mode.OBSERVE
    """How far the medic goes: `observe`, `propose`, `earned` or `act`. Example: `"propose"`."""
    paused: bool = False
    """Whether it does nothing at all, whatever the modes say. Example: `true`."""
    targets: dict[Name, TargetSettings] = Field({}, max_length=10_000)
    """What holds for single services."""
    every_sec: Annotated[float, Field(ge=0.1, le=60)] = 1.0
    """The time from one look at the fleet to the next, if no alert comes. Example: `2`."""
    wait_sec: Seconds = 5.0
    """How long a target may recover by itself before the first remedy. Example: `10`."""
    settle_sec: Seconds = 30.0
    """How long a remedy may take to be verified. Example: `60`."""
    stable_sec: Seconds = 300.0
    """How long a target must stay up until its outage ends. Example: `600`."""
    start_grace_sec: Seconds = 30.0
    """The time that the start of a process may take. Example: `60`."""
    old_sec: Seconds = 3600.0
    """The age of an outage from which it is left to people, if the medic did not see it before. Example:
    `600`."""
    degraded_sec: Seconds = 600.0
    """How long the beats of a service may say `degraded`. Example: `1200`."""
    proposal_sec: Seconds = 3600.0
    """How long a proposal may be approved. Example: `900`."""
    pause_sec: Seconds = 1800.0
    """How long the medic takes a source out of service. Example: `600`."""
    earn_after: Annotated[int, Field(ge=1, le=100)] = 5
    """How many approved attempts at a remedy must have helped a service in a row until the mode `earned` lets
    it act. Example: `10`."""
    learning: bool = False
    """Whether the medic passes over remedies that do not help by its record, and begins with those that help
    most. Example: `true`."""
    rollback: RollbackSettings = RollbackSettings()
    """When a truth is taken for the cause of an outage."""
    fuse: FuseSettings = FuseSettings()
    """When the medic stops."""
    shipped_rules: bool = True
    """Whether the rules of docs/services/alert-rules.md are in force that the truth does not name. Example:
    `false`."""
    rules: dict[RuleName, MonitorRule | None] = Field({}, max_length=MAX_RULES)
    """Alert rules by their names. One with the name of a shipped rule is in its place; `null` takes that one
    out. Example: `{"disk": null}`."""
    rules_every_sec: Annotated[float, Field(ge=1, le=60)] = 10.0
    """The time from one measurement for the rules to the next. Example: `30`."""

    def mode_of(self, svc: str, remedy: Remedy) -> Mode:
        """Return the mode of a remedy for a service.

        To roll back the truth is done without asking only where the truth names this very remedy for that,
        and it can't earn it.
        """
        target = self.targets.get(svc, TargetSettings())
        own = next((mode for name, mode in target.remedies.items() if name == remedy), None)
        mode = own or target.mode or self.mode
        is_unasked = mode is Mode.EARNED or (mode is Mode.ACT and own is None)
        return Mode.PROPOSE if remedy is Remedy.ROLL_BACK_TRUTH and is_unasked else mode

    @property
    def uses_record(self) -> bool:
        """Whether anything that the medic does follows from its record of incidents."""
        return self.learning or Mode.EARNED in self._list_modes()

    @property
    def may_do_anything(self) -> bool:
        """Whether there is a service for which the medic may act, or ask a person."""
        return any(mode not in (None, Mode.OBSERVE) for mode in self._list_modes())

    def _list_modes(self) -> list[Mode | None]:
        own = (mode for each in self.targets.values() for mode in (each.mode, *each.remedies.values()))
        return [self.mode, *own]

    def ladder_of(self, svc: str) -> tuple[Remedy, ...]:
        """Return the remedies that may be tried for a service, without `wait`."""
        target = self.targets.get(svc, TargetSettings())
        return tuple(map(Remedy, target.ladder))

    @field_validator("rules")
    @classmethod
    def _have_few_patterns(cls, rules: dict[str, MonitorRule | None]) -> dict[str, MonitorRule | None]:
        """Raise ValueError if there are more than MAX_PATTERNS patterns."""
        if sum(rule is not None and rule.pattern is not None for rule in rules.values()) > MAX_PATTERNS:
            raise ValueError(f"have too many patterns: {MAX_PATTERNS} at most")
        return rules

    def rules_in_force(self) -> dict[str, MonitorRule]:
        """Return our rules, and those of the truth in their place; None there takes a rule out."""
        merged: dict[str, MonitorRule | None] = {**(SHIPPED if self.shipped_rules else {}), **self.rules}
        return {name: rule for name, rule in merged.items() if rule is not None}

    @property
    def reject_limit(self) -> float | None:
        """How much of what a source sends may be of no use, by the rules in force; None if none says so."""
        rules = self.rules_in_force().values()
        limits = (each.above for each in rules if each.metric is Metric.SOURCE_REJECTS)
        return min((each for each in limits if each is not None), default=None)

    def find_longest_gap(self, rest_sec: float) -> float:
        """Return the longest time between two looks at the fleet in which what was observed before continues.

        `rest_sec` is the rest that was planned between them.
        """
        return max(MAX_GAP_SEC, 3 * self.every_sec, 2 * rest_sec)

    def find_command_sec(self, svc: str) -> float | None:
        """Return how long the command may take for a service; None if the truth does not say so."""
        target = self.targets.get(svc)
        return None if target is None else target.timeout_sec

    def start_grace_of(self, svc: str) -> float:
        target = self.targets.get(svc)
        return (target.start_grace_sec if target is not None else None) or self.start_grace_sec


class MedicSettings(ServiceConfig):
    """The settings of the medic in the truth."""

    variables: ClassVar = list_variables(MedicEnvironment)

    settings: HealingSettings = HealingSettings()
    """What the medic may do, to which services, and when it stops."""

    def find_truth_warnings(self, truth: Truth) -> Iterator[tuple[Place, str]]:
        """Yield each target that the truth does not name, or that is never touched."""
        for svc in self.settings.targets:
            place = ("settings", "targets", svc)
            if svc in PROTECTED:
                yield place, "is never touched by the medic"
            elif svc not in truth.services:
                yield place, "is not a service of this truth" + format_hint(svc, truth.services)
            else:
                yield from self._find_useless_remedies(svc, truth)
        for name in self.settings.rules.keys() - SHIPPED.keys():
            if self.settings.rules[name] is None:
                yield (
                    ("settings", "rules", name),
                    "takes out a rule that is not there" + format_hint(name, SHIPPED),
                )
        for name, rule in self.settings.rules.items():
            if rule is not None and rule.key is not None and not list_pairs({name: rule}, truth):
                yield ("settings", "rules", name, "key"), "is written by no service that the rule is about"
            if rule is not None and rule.table is not None and not list_pairs({name: rule}, truth):
                yield ("settings", "rules", name, "table"), f"is written by {ARCHIVE}, which the truth lacks"
        if len(list_pairs(self.settings.rules_in_force(), truth)) == MAX_PAIRS:
            yield ("settings", "rules"), f"has too many subjects: {MAX_PAIRS:,} at most are evaluated"

    def _find_useless_remedies(self, svc: str, truth: Truth) -> Iterator[tuple[Place, str]]:
        """Yield where a ladder names a remedy that can do nothing for this service, and why."""
        place = ("settings", "targets", svc, "ladder")
        own = self.settings.targets[svc].remedies
        if any(Remedy(name) is Remedy.ROLL_BACK_TRUTH and mode is Mode.EARNED for name, mode in own.items()):
            yield (
                ("settings", "targets", svc, "remedies", Remedy.ROLL_BACK_TRUTH),
                f"{Mode.EARNED} stands for {Mode.PROPOSE} here: only {Mode.ACT} has it done without asking",
            )
        for remedy in self.settings.ladder_of(svc):
            if remedy in (Remedy.RESUME_SOURCES, Remedy.PAUSE_SOURCE) and svc != SOURCES:
                yield place, f"{remedy} does nothing: only {SOURCES} has breakers"
            if remedy == Remedy.PAUSE_SOURCE and self.settings.reject_limit is None:
                yield place, f"{remedy} does nothing: no rule has the metric {Metric.SOURCE_REJECTS}"
            if remedy == Remedy.REPEAT_BACKUP and svc != ARCHIVE:
                yield place, f"{remedy} does nothing: only {ARCHIVE} makes backups"
            if remedy == Remedy.RECONNECT and svc not in (able := REQUEST_KEYS[Remedy.RECONNECT]):
                yield place, f"{remedy} does nothing: only {' and '.join(able)} have connections"
            if remedy == Remedy.RELOAD_SERIES and svc != SOURCES:
                yield place, f"{remedy} does nothing: only {SOURCES} loads series"
            if remedy in CACHES and find_cache(truth, svc, remedy) is None:
                yield place, f"{remedy} does nothing: no access point of {svc} names {CACHES[remedy]}"
