"""Read settings of programs from the environment: variables, types of fields, and what every program reads.

A field `redis_url` is the variable `REDIS_URL`. A variable that may hold a secret (every URL, every
`SecretStr`) has a second form, `REDIS_URL_FILE`, that names a file with the value. An empty variable counts
as not set, as compose's `${NAME:-}` leaves it. `programs` has the settings of single programs, which most
commands need not import. `marketswarm.bus.find_bus_url` reads the URLs of named buses.

Enters: the environment, and files that it names.
Leaves: checked settings, or all mistakes at once. Where the truth sets something too, the truth wins.
Never: the value of a variable in an error; it names the variable.
"""

from __future__ import annotations

import os
import re
from base64 import b64decode
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeVar, get_args
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from marketswarm.bus_url import explain_bus_url, is_bus_url
from marketswarm.exit import Mistake
from marketswarm.keys import TRUTH_DOC
from marketswarm.net.addresses import is_web_url

MAX_SECRET_FILE_BYTES: Final = 64 * 1024
"""The most bytes of a file with a secret; the path of a larger file must be a mistake."""
MIN_KEY_CHARS: Final = 32
BASE64_PREFIX: Final = "whsec_"
"""The prefix of a secret in base64, by the Standard Webhooks specification."""


def read_variable(name: str, environ: Mapping[str, str]) -> str | None:
    """Return the variable `name`, otherwise the text of the file that `<name>_FILE` names, otherwise None.

    Raises Exit, code 2, when the file can't be read, is empty, too long or not UTF-8.
    """
    if environ.get(name):
        return environ[name]
    path = environ.get(f"{name}_FILE")
    return _read_secret_file(f"{name}_FILE", Path(path)) if path else None


def is_variable_set(name: str, environ: Mapping[str, str]) -> bool:
    """Return whether `read_variable` would find a value, without reading a file."""
    return any(environ.get(name + suffix) for suffix in ("", "_FILE"))


class SecretFileSource(PydanticBaseSettingsSource):
    """A settings source that reads `<NAME>_FILE` for each field that may hold a secret."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        name = field_name.upper()
        # the variable itself, if it is set, takes precedence: it is read by a source before this one
        may_be_secret = field_name.endswith(("_url", "_endpoint")) or _holds_secret(field.annotation)
        return read_variable(name, os.environ) if may_be_secret else None, field_name, False

    def __call__(self) -> dict[str, Any]:
        found = {
            name: self.get_field_value(field, name)[0]
            for name, field in self.settings_cls.model_fields.items()
        }
        return {name: value for name, value in found.items() if value is not None}


def _holds_secret(annotation: Any) -> bool:
    return annotation is SecretStr or any(map(_holds_secret, get_args(annotation)))


def _read_secret_file(variable_name: str, path: Path) -> str:
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_SECRET_FILE_BYTES + 1)
        text = raw.decode()
    except OSError as error:
        raise Mistake(f"{variable_name}: the file can't be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise Mistake(f"{variable_name}: the file is not UTF-8 text") from None
    if len(raw) > MAX_SECRET_FILE_BYTES:
        raise Mistake(f"{variable_name}: the file is longer than {MAX_SECRET_FILE_BYTES} bytes")
    if not text.strip():
        raise Mistake(f"{variable_name}: the file is empty")
    return text.strip()


# each `_check_…` returns the value of a variable, or raises ValueError


def _check_redis_url(url: str) -> str:
    if not is_bus_url(url):
        raise ValueError(f"must be {explain_bus_url(url)}")
    return url


def _check_http_url(url: str) -> str:
    if not is_web_url(url) or not url.isprintable() or " " in url:
        raise ValueError("must be http://host/… or https://host/…")
    return url


def _check_signing_secret(secret: SecretStr) -> SecretStr:
    encoded = secret.get_secret_value()
    if encoded.startswith(BASE64_PREFIX):
        try:
            usable = bool(b64decode(encoded.removeprefix(BASE64_PREFIX), validate=True))
        except ValueError:
            usable = False
        if not usable:
            raise ValueError(f"must have base64 after {BASE64_PREFIX}")
    return secret


def _check_mail_addresses(value: str) -> str:
    from email.utils import getaddresses  # noqa: PLC0415 - takes time, and few have such a variable

    addresses = [address for _, address in getaddresses([value])]
    are_valid = [re.fullmatch(r"[^@\s]+@[^@\s]+", address) for address in addresses]
    if not value.isprintable() or not addresses or not all(are_valid):
        raise ValueError("must be mail addresses, separated by commas")
    if not all(map(str.isascii, addresses)):
        # half of all mail servers accept no other characters, and would refuse each mail permanently
        raise ValueError("must be mail addresses in ASCII (other letters in a domain are written xn--…)")
    return value


def _normalize_host_names(value: str) -> str:
    names = [name.strip() for name in value.split(",")]
    if not all(re.fullmatch(r"[A-Za-z0-9_.-]{1,253}", name) for name in names if name):
        raise ValueError("must be host names without ports, separated by commas")
    return ",".join(filter(None, names))


def _check_public_url(text: str) -> str:
    """Return an address without a last slash. Raise ValueError for any other text."""
    parts = urlsplit(text.strip())
    is_plain = parts.scheme in ("http", "https") and parts.hostname and not parts.query and not parts.fragment
    if not is_plain or "@" in parts.netloc or not text.isascii() or not text.strip().isprintable():
        raise ValueError("must be https://name, with a port and a path where there are some")
    return parts.geturl().rstrip("/")


def _check_key(secret: SecretStr) -> SecretStr:
    if len(secret.get_secret_value()) < MIN_KEY_CHARS:
        raise ValueError(f"must have at least {MIN_KEY_CHARS} characters: `openssl rand -hex 32` makes one")
    return secret


def _check_token(secret: SecretStr) -> SecretStr:
    # other characters could end a header or a path
    if not re.fullmatch(r"[!-~]+", secret.get_secret_value()):
        raise ValueError("must be printable ASCII without spaces")
    return secret


def _normalize_log_level(value: Any) -> Any:
    word = str(value).strip().upper()
    return {"WARN": "WARNING", "FATAL": "CRITICAL"}.get(word, word)


def _normalize_word(value: Any) -> Any:
    return value.strip().lower() if isinstance(value, str) else value


RedisUrl = Annotated[str, AfterValidator(_check_redis_url)]
HttpUrl = Annotated[str, AfterValidator(_check_http_url)]
SigningSecret = Annotated[SecretStr, AfterValidator(_check_signing_secret)]
PublicUrl = Annotated[str, AfterValidator(_check_public_url)]
Key = Annotated[SecretStr, AfterValidator(_check_key)]
Token = Annotated[SecretStr, AfterValidator(_check_token)]
HostNames = Annotated[str, AfterValidator(_normalize_host_names)]
MailAddresses = Annotated[str, AfterValidator(_check_mail_addresses)]
Tls = Annotated[Literal["starttls", "tls", "none"], BeforeValidator(_normalize_word)]
LogLevel = Annotated[
    Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"], BeforeValidator(_normalize_log_level)
]
LogFormat = Annotated[Literal["json", "console"], BeforeValidator(_normalize_word)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
SlowMs = Annotated[float, Field(ge=1, le=3_600_000, allow_inf_nan=False)]
Name = Annotated[str, Field(min_length=1, max_length=200)]
Port = Annotated[int, Field(ge=1, le=65_535)]


class CommonSettings(BaseSettings):
    """Settings that every program reads. All times are in seconds."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="ignore",
        env_ignore_empty=True,
        hide_input_in_errors=True,
        defer_build=True,  # a program reads one class of settings and need not wait for all others
    )

    redis_url: RedisUrl | None = Field(default=None, repr=False)
    truth_redis_url: RedisUrl | None = Field(default=None, repr=False)
    truth_redis_key: Name = TRUTH_DOC
    truth_path: Path = Path("truth.json")
    truth_wait_sec: Seconds = 30.0
    bootstrap_timeout_sec: Seconds = 60.0
    default_timeout_sec: Seconds = 30.0  # a service's timeout where the truth has none
    # time without progress of the work loop until exit 5; default: the timeout, at least 3
    watchdog_sec: Seconds | None = None
    marketswarm_alive_file: Path | None = None  # for `marketswarm check`; default: no file
    metrics_port: Port | None = None  # default: no metrics
    metrics_host: Name = "127.0.0.1"
    metrics_allowed_hosts: HostNames | None = None  # in requests for metrics; default: our own names
    log_level: LogLevel = "INFO"
    log_format: LogFormat | None = None  # default: console on a terminal, otherwise json

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the library's signature
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - as above
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Return the sources by precedence: arguments, environment, `<NAME>_FILE` files; no .env file."""
        return init_settings, env_settings, SecretFileSource(settings_cls)


def list_variables(cls: type[BaseSettings]) -> frozenset[str]:
    """Return the names of the variables, without their `<NAME>_FILE` forms."""
    return frozenset(name.upper() for name in cls.model_fields)


S = TypeVar("S", bound=CommonSettings)


def read_settings(cls: type[S]) -> S:
    """Raises Exit, code 2, naming each variable that has a wrong value."""
    try:
        return cls()
    except ValidationError as error:
        problems = [
            f"{str(item['loc'][0]).upper()}: {item['msg'].removeprefix('Value error, ')}"
            for item in error.errors(include_input=False)
        ]
    raise Mistake("; ".join(problems).replace("Input should", "should"))
