"""What every program reads from the environment, and how that is done.

A field `redis_url` is the variable `REDIS_URL`. A variable that may bear a secret (every URL, every
`SecretStr`) has a twin, `REDIS_URL_FILE`, that names a file holding the value. An empty variable
counts as not set, as compose's `${NAME:-}` leaves it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from marketswarm.exit import Code, Exit
from marketswarm.settings.twins import Twins
from marketswarm.settings.values import Format, HostNames, Level, Name, Port, RedisUrl, Seconds


class Common(BaseSettings):
    """What every program here reads. All times are seconds."""

    model_config = SettingsConfigDict(
        frozen=True, extra="ignore", env_ignore_empty=True, hide_input_in_errors=True
    )

    redis_url: RedisUrl | None = Field(default=None, repr=False)
    truth_redis_url: RedisUrl | None = Field(default=None, repr=False)
    truth_redis_key: Name = "truth:doc"
    truth_path: Path = Path("truth.json")
    truth_wait_sec: Seconds = 30.0
    bootstrap_timeout_sec: Seconds = 60.0
    default_timeout_sec: Seconds = 30.0  # a service's timeout where the truth has none
    watchdog_sec: Seconds | None = (
        None  # silence of the work loop until exit 5; default: the timeout, at least 3
    )
    marketswarm_alive_file: Path | None = None  # for `marketswarm check`; default: no sign of life
    metrics_port: Port | None = None  # default: no metrics
    metrics_host: Name = "127.0.0.1"
    metrics_allowed_hosts: HostNames | None = None  # by which metrics may be asked for; default: ours alone
    log_level: Level = "INFO"
    log_format: Format | None = None  # default: console on a terminal, else json

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the library's signature
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - as above
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The arguments of a test, then the environment, then its `_FILE` twins; no .env file."""
        return init_settings, env_settings, Twins(settings_cls)


def variables_of(cls: type[BaseSettings]) -> frozenset[str]:
    """The names of the variables that a class of settings reads, without their `_FILE` twins."""
    return frozenset(name.upper() for name in cls.model_fields)


S = TypeVar("S", bound=Common)


def read(cls: type[S]) -> S:
    """The settings of `cls` from the environment.

    Raises:
        Exit: code 2, naming each variable that does not parse, and never its value.
    """
    try:
        return cls()
    except ValidationError as error:
        wrong = [
            f"{str(item['loc'][0]).upper()}: {_plain(item['msg'])}"
            for item in error.errors(include_input=False)
        ]
    raise Exit(Code.CONFIGURATION, "; ".join(wrong))


def _plain(message: str) -> str:
    return message.removeprefix("Value error, ").replace("Input should", "should")
